package api_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

type networkConfig = sluice.NetworkConfig

func TestConnectors(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.PublicURL = "https://sluice.example.com" })
	list := h.do("GET", "/connectors", "").want(http.StatusOK).list()
	equal(t, len(list), 1)
	one := h.do("GET", "/connectors/actility-test-iot", "").want(http.StatusOK).json()
	equal(t, one, list[0])
	configuration := one["connection"].(map[string]any)["configurationSchema"].(map[string]any)
	equal(t, configuration["$schema"], any("http://json-schema.org/draft-04/schema#"))
	equal(t, configuration["properties"].(map[string]any)["privateKey"], any(map[string]any{"type": "string", "format": "password"}))
	delete(one, "connection")
	equal(t, one, map[string]any{
		"id": "actility-test-iot", "producerId": "actility", "moduleId": "test-iot", "version": "2.0.0", "name": "Test cloud",
		"description": "A cloud for tests", "logo": "", "beta": false, "urlDoc": "https://sluice.example.com/docs", "flow": map[string]any{},
	})
	v := h.do("GET", "/connectors/actility-azure-iot", "").want(http.StatusNotFound).json()
	equal(t, v["message"], any(`There is no connector "actility-azure-iot". This Sluice has: actility-test-iot.`))
	equal(t, v["hint"], any("GET /connectors lists them."))
}

func TestDevices(t *testing.T) {
	h := newHarness(t)
	seen := h.clock.Now()
	h.store.devices = []sluice.Device{
		{DevEUI: "0018B20000000B20", Name: "Door", Tags: []string{"Paris", "door"}, Network: "net1", LastSeen: seen},
		{DevEUI: "0018B20000000B21", Network: "net2", LastSeen: seen},
		{DevEUI: "70B3D50000000001", Tags: []string{"paris"}, Network: "net1", LastSeen: seen},
	}
	h.store.things["0018B20000000B20"] = map[string]sluice.Thing{
		"10": {State: sluice.ThingFailed, Detail: "not allowed to iot:CreateThing", Tag: "internal"}, "9": {State: sluice.ThingRegistered},
	}
	want := map[string]any{
		"devEUI": "0018B20000000B20", "name": "Door", "tags": []any{"Paris", "door"}, "networkId": "net1",
		"lastSeen": "2026-03-01T12:00:00.120Z", "things": []any{
			map[string]any{"connectionId": "9", "state": "registered"},
			map[string]any{"connectionId": "10", "state": "failed", "detail": "not allowed to iot:CreateThing"},
		},
	}
	equal(t, h.do("GET", "/devices/0018b20000000b20", "").want(http.StatusOK).json(), want)
	equal(t, h.do("GET", "/devices", "").want(http.StatusOK).list()[0], want)
	v := h.do("GET", "/devices/0018B200000000FF", "").want(http.StatusNotFound).json()
	equal(t, v["message"], any(`There is no device with the DevEUI "0018B200000000FF".`))
	equal(t, v["hint"], any("GET /devices lists them; a device is known from its first report on."))

	for query, euis := range map[string][]any{
		"":                            {"0018B20000000B20", "0018B20000000B21", "70B3D50000000001"},
		"?perPage=2&page=2":           {"70B3D50000000001"},
		"?networkId=net1":             {"0018B20000000B20", "70B3D50000000001"},
		"?tag=PARIS":                  {"0018B20000000B20", "70B3D50000000001"},
		"?tag=paris&devEUI=0018b2":    {"0018B20000000B20"},
		"?networkId=net1&perPage=1":   {"0018B20000000B20"},
		"?networkId=nowhere":          {},
		"?tag=paris&perPage=1&page=2": {"70B3D50000000001"},
	} {
		equal(t, names(h.do("GET", "/devices"+query, "").want(http.StatusOK).list(), "devEUI"), euis)
	}
	equal(t, h.do("GET", "/devices?networkId=net1&perPage=1", "").Header.Get("X-Total"), "2")
	h.do("GET", "/devices?devEUI=xyz", "").want(http.StatusBadRequest)
}

func TestEvents(t *testing.T) {
	h := newHarness(t)
	for i, e := range []sluice.Event{
		{Level: sluice.LevelInfo, Type: sluice.EventConnectionOpened, Label: "Connection opened", Connection: "1"},
		{
			Level: sluice.LevelError, Type: sluice.EventUplinkFailed, Label: "Uplink failed", Connection: "1", DevEUI: "0018B20000000B20",
			Hint: "Allow it.", Reason: sluice.ReasonNotAuthorized, Message: "m", Network: "n", Detail: "Refused.",
		},
		{Level: sluice.LevelError, Type: sluice.EventConnectionFailed, Connection: "2"},
	} {
		h.clock.advance(time.Duration(i) * time.Minute)
		h.store.Record(e)
	}
	for query, ids := range map[string][]any{
		"":                         {"3", "2", "1"},
		"?connectionId=1":          {"2", "1"},
		"?level=error&perPage=1":   {"3"},
		"?devEUI=0018b20000000b20": {"2"},
		"?type=connection.opened":  {"1"},
		"?from=2026-03-01T12:00:30Z&to=2026-03-01T12:02:00Z": {"2"},
		"?from=2026-03-01T14:00:30+02:00":                    {"3", "2"}, // the plus sign as people write it
		"?from=2026-03-01T14:00:30%2B02:00":                  {"3", "2"},
		"?to=2026-03-01T12:00:00Z":                           {},
	} {
		equal(t, names(h.do("GET", "/events"+query, "").want(http.StatusOK).list(), "id"), ids)
	}
	equal(t, h.do("GET", "/events?level=error&perPage=1", "").Header.Get("X-Total"), "2")
	equal(t, h.do("GET", "/events?devEUI=0018b20000000b20", "").list()[0], map[string]any{
		"id": "2", "time": "2026-03-01T12:01:00.120Z", "level": "error", "type": "uplink.failed", "label": "Uplink failed",
		"detail": "Refused.", "hint": "Allow it.", "reason": "not_authorized", "connectionId": "1", "networkId": "n",
		"devEUI": "0018B20000000B20", "messageId": "m",
	})
	equal(t, h.do("GET", "/events?from=yesterday&to=x", "").want(http.StatusBadRequest).fields(), map[string]string{
		"from": "must be a time as in RFC 3339: 2026-03-01T12:00:00Z", "to": "must be a time as in RFC 3339: 2026-03-01T12:00:00Z",
	})
	equal(t, h.do("GET", "/events?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "").want(http.StatusBadRequest).fields(),
		map[string]string{"to": "must not be before 'from'"})
	equal(t, h.do("GET", "/events?level=fatal&page=0&from=yesterday&device=1&perpage=3", "").want(http.StatusBadRequest).fields(),
		map[string]string{
			"level": "must be one of info, warning, error", "page": "must be a number not below 1",
			"from":   "must be a time as in RFC 3339: 2026-03-01T12:00:00Z",
			"device": "unknown query parameter 'device'", "perpage": "unknown query parameter 'perpage'; did you mean 'perPage'?",
		})
	h.store.broken = errors.New("broken")
	h.do("GET", "/events", "").want(http.StatusInternalServerError)
}

func TestMetrics(t *testing.T) {
	h := newHarness(t)
	h.do("GET", "/connections/1/metrics", "").want(http.StatusNotFound)
	h.create(connection)
	now := h.clock.Now()
	h.supervisor.metrics = api.Metrics{
		Time:  api.At(now),
		Total: api.Counters(sluice.Counters{Received: 10, Delivered: 5, Pending: 2, Expired: 1, Failed: 1, Filtered: 1}), Duplicates: 3,
		Quarantined: 4, Retried: 5, Dropped: 6,
		LastHour: api.Window{
			From: api.At(now.Add(-time.Hour)), To: api.At(now), ActiveDevices: 4, Uplinks: api.Outcomes{OK: 5, Failed: 1}, PendingBefore: 1,
			Counters: api.Counters{Received: 6, Delivered: 5, Pending: 2},
			Points:   []api.Point{{Time: api.At(now.Add(-time.Minute)), Received: 6, Delivered: 5, Pending: 2}},
		},
	}
	h.supervisor.status["1"] = sluice.Status{Sessions: []sluice.SessionStatus{{ID: "sluice-1-0", Opened: now, Delivered: 5, Rate: 2, InFlight: 1}}, CommandRate: 96.4}
	v := h.do("GET", "/connections/1/metrics", "").want(http.StatusOK).json()
	equal(t, v["connectionId"], any("1"))
	equal(t, v["total"], any(map[string]any{
		"received": 10.0, "delivered": 5.0, "pending": 2.0, "expired": 1.0, "failed": 1.0, "filtered": 1.0,
	}))
	equal(t, v["duplicates"], any(3.0))
	equal(t, []any{v["quarantined"], v["retried"], v["quarantineDropped"]}, []any{4.0, 5.0, 6.0})
	equal(t, v["commands"].(map[string]any)["rate"], any(96.4))
	equal(t, v["sessions"], any([]any{map[string]any{
		"id": "sluice-1-0", "opened": "2026-03-01T12:00:00.120Z", "delivered": 5.0, "rate": 2.0, "inFlight": 1.0,
	}}))
	hour := v["lastHour"].(map[string]any)
	equal(t, hour["from"], any("2026-03-01T11:00:00.120Z"))
	equal(t, hour["points"], any([]any{map[string]any{
		"time": "2026-03-01T11:59:00.120Z", "received": 6.0, "delivered": 5.0, "failed": 0.0, "expired": 0.0, "filtered": 0.0, "pending": 2.0, "retried": 0.0,
	}}))
	equal(t, v["lastDay"].(map[string]any)["points"], any([]any{}))
	h.supervisor.refuse = errors.New("broken")
	h.do("GET", "/connections/1/metrics", "").want(http.StatusInternalServerError)
}

func TestRefreshThings(t *testing.T) {
	h := newHarness(t)
	h.do("POST", "/connections/1/things/refresh", "").want(http.StatusNotFound)
	h.create(connection)
	v := h.do("POST", "/connections/1/things/refresh", "").want(http.StatusAccepted).json()
	equal(t, v, map[string]any{"things": 3.0})
	h.supervisor.refuse = sluice.Errorf(sluice.CodeConflict, "The connection is not active.")
	h.do("POST", "/connections/1/things/refresh", "").want(http.StatusConflict)
}
