package app

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sluice"
	"sluice/journal"
)

// Stall makes an App whose journal does not commit: Run is not called. It
// returns a network's door, and what gives everything back.
func (a *App) Stall() (door func(body string) *httptest.ResponseRecorder, release func()) {
	n, err := a.store.CreateNetwork(context.Background(), sluice.NetworkConfig{Kind: "thingpark", Name: "n", Configuration: json.RawMessage(`{}`)}, nil)
	if err != nil {
		panic(err)
	}
	door = func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, httptest.NewRequest("POST", "/ingest/"+n.ID+"?LrnDevEui=20635F0108000496", strings.NewReader(body)))
		return w
	}
	return door, a.networks.closeAll
}

// AddConnection stores a stopped connection, without checking it.
func (a *App) AddConnection(t *testing.T) string {
	t.Helper()
	c, err := a.store.CreateConnection(t.Context(), sluice.Connection{
		ConnectorID: "actility-aws-iot", Name: "c", Configuration: json.RawMessage(`{}`),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// HasPlace reports whether the journal has a place for a connection.
func (a *App) HasPlace(connection string) bool {
	return slices.Contains(a.journal.Places(), journal.Up(connection))
}
