package test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/app"
	"sluice/app/demo"
	"sluice/connector/awsiot"
)

// TestWebSocketsAreRenewed lets every session over WebSocket live for a second
// only, while reports and commands flow: each is opened anew, not all at once,
// and nothing is lost, nor comes twice.
func TestWebSocketsAreRenewed(t *testing.T) {
	w := world(t, 20)
	a, err := app.New(t.Context(), app.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0",
		Connectors: []sluice.Connector{awsiot.New(awsiot.Options{WebSocketLife: time.Second})},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, a.Run)
	defer stop()
	var mu sync.Mutex
	renewed := map[string]int{} // by session
	defer a.Follow(func(e sluice.Event) {
		if strings.Contains(e.Detail, "opened anew, because AWS closes a WebSocket") {
			mu.Lock()
			defer mu.Unlock()
			renewed[strings.Fields(e.Detail)[1]]++
		}
	})()
	api := demo.REST{Base: "http://" + a.Addr(), Token: a.Token()}
	if err := w.Configure(t.Context(), api, func(c map[string]any) { c["protocol"], c["poolSize"] = "WSS", 4 }); err != nil {
		t.Fatal(err)
	}
	posting := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 150}) })
	i := 0
	wait(t, "sessions to be renewed", func() bool {
		if i++; i%20 == 0 {
			if err := w.Command(t.Context(), i/20); err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, times := range renewed {
			n += times
		}
		return n >= 12 && len(renewed) >= 3
	})
	posting()
	settled(t, w, false)
}
