package awsiottest

import (
	"encoding/json"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// presence is a lifecycle event. Source: Developer Guide, "Lifecycle events".
type presence struct {
	ClientID   string `json:"clientId"`
	Timestamp  int64  `json:"timestamp"` // milliseconds
	EventType  string `json:"eventType"` // connected, disconnected
	Initiated  *bool  `json:"clientInitiatedDisconnect,omitempty"`
	Reason     string `json:"disconnectReason,omitempty"`
	SessionID  string `json:"sessionIdentifier"`
	Principal  string `json:"principalIdentifier"`
	IPAddress  string `json:"ipAddress"`
	VersionNum uint64 `json:"versionNumber"`
}

// tellPresence publishes that a client came or went, on
// $aws/events/presence/connected/<client id> or .../disconnected/...
func (b *broker) tellPresence(cl *mqtt.Client, g *guard, connected bool) {
	p := cl.Net.Conn.(*peer).principal
	e := presence{
		ClientID: cl.ID, Timestamp: b.options.Clock().UnixMilli(), EventType: "connected",
		SessionID: g.sessionID, Principal: p.certificateID, IPAddress: p.remote,
	}
	if p.identity != nil {
		e.Principal = p.identity.arn
	}
	if s := b.knownStats(cl.ID); s != nil {
		e.VersionNum = s.event()
	}
	if !connected {
		e.EventType, e.Reason = "disconnected", whyGone(cl)
		initiated := e.Reason == "CLIENT_INITIATED_DISCONNECT"
		e.Initiated = &initiated
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return // it cannot be: it has strings and numbers alone
	}
	b.publishReserved("$aws/events/presence/"+e.EventType+"/"+cl.ID, raw)
}

// whyGone is the reason of the end of a connection in the words of AWS's
// events. Source: the same; which end has which reason is partly inferred.
func whyGone(cl *mqtt.Client) string {
	code, ok := cl.StopCause().(packets.Code)
	if !ok {
		return "CONNECTION_LOST"
	}
	switch code.Code {
	case packets.CodeDisconnect.Code:
		return "CLIENT_INITIATED_DISCONNECT"
	case packets.ErrSessionTakenOver.Code:
		return "DUPLICATE_CLIENTID"
	case packets.ErrKeepAliveTimeout.Code:
		return "MQTT_KEEP_ALIVE_TIMEOUT"
	case packets.ErrNotAuthorized.Code:
		return "FORBIDDEN_ACCESS"
	case packets.ErrServerShuttingDown.Code:
		return "SERVER_INITIATED_DISCONNECT"
	case packets.ErrAdministrativeAction.Code:
		if cl.Net.Conn.(*peer).principal.identity != nil {
			return "WEBSOCKET_TTL_EXPIRATION"
		}
		return "API_INITIATED_DISCONNECT"
	}
	return "CLIENT_ERROR"
}
