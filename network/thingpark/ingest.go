package thingpark

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sluice"
	"sluice/internal/report"
)

// ThingPark does not say how long it waits for an answer, and never tries
// again: an answer is given within a second, whatever happens.
const (
	maxBody    = 128 << 10
	bodyTime   = 600 * time.Millisecond // for the body to come in
	answerTime = 900 * time.Millisecond // for the report to be stored, from the beginning
)

// Codes of HTTP statuses that the root does not name.
const (
	codeMethod  sluice.Code = "com-4005"
	codeTimeout sluice.Code = "com-4008"
)

// refusal is why a report is not taken.
type refusal struct {
	status int
	code   sluice.Code
	// cause groups the events of refusals.
	cause   string
	reason  sluice.Reason
	message string
	hint    string
	devEUI  string // as far as it is known
	detail  string // for the event only
	remedy  string // for the event, instead of hint
}

func (r *refusal) Error() string { return r.message }

// ServeHTTP takes one report: POST with ThingPark's query parameters and a
// document in JSON or XML, whatever the content type says. 200 means that
// Reports.Handle has returned nil: the report is held durably. Every other
// status means that it is not taken: 400 cannot be read, 401 wrong signature,
// 408 too slow, 413 over 128 KiB, 503 cannot be stored now. Their body is
// {"code","message","hint"}.
func (n *Network) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	// Before anything is answered, as the server reads what is left of a body
	// before it answers. A recorder in a test has no deadline; then there is no
	// slow client either. The server lifts it for the next request.
	_ = http.NewResponseController(w).SetReadDeadline(start.Add(bodyTime))
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, &refusal{status: http.StatusMethodNotAllowed, code: codeMethod, message: "Reports come in by POST.", hint: "This address is for the network server."})
		return
	}
	// A closed door still takes what comes to it: whoever holds it found it
	// before it was replaced, and the report is as good here as there. Close
	// waits for those that it knows of.
	if n.gate.enter() {
		defer n.gate.leave()
	}
	if refused := n.take(w, r, start); refused != nil {
		n.tell(refused)
		answer(w, refused)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// take does all that is done for a report before the answer.
func (n *Network) take(w http.ResponseWriter, r *http.Request, start time.Time) *refusal {
	q := parseQuery(r.URL.RawQuery)
	now := n.clock()
	// What the address alone tells is checked before the body is read.
	check, refused := n.checkQuery(&q, now)
	if refused != nil {
		return refused.of(&q)
	}
	body, refused := readBody(w, r)
	if refused != nil {
		return refused.of(&q)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return malformed("empty", "The body is empty.", "A report is a document, as JSON or XML.").of(&q)
	}
	document, rep, err := report.Read(body)
	if err != nil {
		return unreadable(err).of(&q)
	}
	if refused := n.checkReport(&rep, &q, check); refused != nil {
		refused.devEUI = rep.DevEUI
		return refused
	}
	m, err := n.message(&rep, document, now)
	if err != nil {
		return unavailable(err)
	}
	// A client that goes away does not end the storing: it will not send the
	// report again.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), start.Add(answerTime))
	defer cancel()
	if err := n.reports.Handle(ctx, m); err != nil {
		refused := unavailable(err)
		refused.devEUI = rep.DevEUI
		return refused
	}
	return nil
}

func (n *Network) message(r *report.Report, document []byte, now time.Time) (*sluice.Message, error) {
	id, err := n.ids.next(now)
	if err != nil {
		return nil, err
	}
	return &sluice.Message{
		ID:          id,
		Kind:        r.Kind,
		DevEUI:      r.DevEUI,
		Network:     n.id,
		Received:    now,
		Time:        r.Time,
		Fingerprint: r.Fingerprint(n.id, document),
		Tags:        r.Tags,
		Name:        r.Name,
		Document:    document,
	}, nil
}

// checkQuery checks what the address of a signed report must carry. Without a
// key nothing is checked, and a Token means nothing.
func (n *Network) checkQuery(q *query, now time.Time) (*tokenCheck, *refusal) {
	if len(n.config.asKeys) == 0 {
		return nil, nil
	}
	if q.token == "" {
		return nil, unauthorized("unsigned", "The report is not signed: its address has no Token.",
			"Activate the authentication of the application server in ThingPark, with the AS_ID and the key of this network.")
	}
	if q.asID != n.config.asID {
		return nil, unauthorized("as id", "The report is signed for another application server.",
			"Compare the AS_ID in ThingPark with the asId of this network.")
	}
	if limit := n.config.maxDeviation; limit > 0 {
		t, ok := report.ParseTime(q.time)
		if !ok {
			return nil, unauthorized("time missing", "The report is signed without a Time that can be read.", "")
		}
		if now.Sub(t).Abs() > limit {
			return nil, unauthorized("time", deviation(t, now, limit), "Compare the clocks, or raise maxTimeDeviation.")
		}
	}
	check, ok := newTokenCheck(q, n.config.asKeys)
	if !ok {
		return nil, unauthorized("token", tokenForm(q.token), "")
	}
	return check, nil
}

// checkReport checks the report against its signature and its address. check
// is nil where reports are not signed.
func (n *Network) checkReport(r *report.Report, q *query, check *tokenCheck) *refusal {
	if check != nil {
		ok, published := check.report(r)
		if !ok && published {
			return unauthorized("token", "The Token does not sign this report.",
				"Compare the key of the application server in ThingPark with the asKey of this network.")
		}
		if !ok {
			// A cause is told once a minute: strangers must not make many.
			cause, kind := "token of "+string(r.Kind), string(r.Kind)
			if !isDocumented(r.Kind) {
				cause, kind = "token of an undocumented kind", kind+", a kind of report that is not documented"
			}
			return unauthorized(cause, "The Token does not sign this report in any form that is known; ThingPark has not published how it signs "+kind+".",
				"Compare the keys; if other reports are taken, please tell us of this kind.")
		}
	}
	switch {
	case r.Kind == sluice.KindDownlink:
		return malformed("command", "A DevEUI_downlink is a command, not a report.", "Post it to the downlink address of a connection.")
	case r.DevEUI == "":
		return malformed("no device", "The document names no device.", "A report has a DevEUI, a BS_alarm a LrrID.")
	case q.devEUI != "" && r.Kind != sluice.KindBSAlarm:
		if eui, ok := report.DevEUI(q.devEUI); !ok || eui != r.DevEUI {
			return malformed("device", "The LrnDevEui of the address and the DevEUI of the document differ.", "")
		}
	}
	return nil
}

// isDocumented reports whether a kind is one of ThingPark's.
func isDocumented(k sluice.Kind) bool {
	switch k {
	case sluice.KindUplink, sluice.KindDownlinkSent, sluice.KindDownlinkRejected, sluice.KindLocation,
		sluice.KindNotification, sluice.KindMulticastSummary, sluice.KindAlarm, sluice.KindBSAlarm:
		return true
	}
	return false
}

// readBody reads the body, which has its bounds in size, and in time by the
// read deadline.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	body, err := readAll(r)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, &refusal{
				status: http.StatusRequestTimeout, code: codeTimeout, cause: "slow", reason: sluice.ReasonTimeout,
				message: "The report did not come in in time.", hint: "Send it in one piece.",
			}
		}
		return nil, malformed("broken off", "The report broke off.", "")
	}
	// The deadline would otherwise end the request's context later on.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if len(body) > maxBody {
		return nil, tooLarge()
	}
	return body, nil
}

// readAll reads the body, or one byte more than is allowed.
func readAll(r *http.Request) ([]byte, error) {
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	return io.ReadAll(io.LimitReader(r.Body, maxBody+1))
}

// tell records the event of a refusal.
func (n *Network) tell(r *refusal) {
	level := sluice.LevelWarning
	if r.status == http.StatusServiceUnavailable {
		level = sluice.LevelError // the report is lost: ThingPark does not send it again
	}
	n.refusals.tell(r.cause, sluice.Event{
		Level: level, Type: sluice.EventUplinkRefused, Label: "Uplink refused",
		Detail: strings.TrimSpace(r.message + " " + r.detail), Hint: cmp.Or(r.remedy, r.hint), Reason: r.reason, DevEUI: r.devEUI,
	})
}

// of adds the device that the address names, as far as it names one.
func (r *refusal) of(q *query) *refusal {
	r.devEUI, _ = report.DevEUI(q.devEUI)
	return r
}

func unauthorized(cause, message, hint string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: sluice.CodeUnauthorized, cause: cause, reason: sluice.ReasonAuthentication, message: message, hint: hint}
}

func malformed(cause, message, hint string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: sluice.CodeInvalid, cause: cause, reason: sluice.ReasonMalformed, message: message, hint: hint}
}

func unreadable(err error) *refusal {
	r := malformed("unreadable", "The report cannot be read.", "")
	var e *sluice.Error
	if errors.As(err, &e) {
		r.message, r.hint = e.Message, e.Hint
	}
	return r
}

func tooLarge() *refusal {
	return &refusal{
		status: http.StatusRequestEntityTooLarge, code: sluice.CodeTooLarge, cause: "too large", reason: sluice.ReasonTooLarge,
		message: fmt.Sprintf("The report is over %d KiB, the most that is taken.", maxBody>>10),
	}
}

func unavailable(err error) *refusal {
	r := &refusal{
		status: http.StatusServiceUnavailable, code: sluice.CodeUnavailable, cause: "unavailable", reason: sluice.ReasonOf(err),
		message: "The report could not be stored.", hint: "Send it again.", detail: cut(err.Error(), 300),
		remedy: "Check the disk of the data directory, and the log.",
	}
	var e *sluice.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		r.reason, r.detail = sluice.ReasonTimeout, "It was not on the disk within a second."
		r.remedy = "Check how busy the machine is, and the disk of the data directory."
	case errors.As(err, &e):
		r.detail, r.remedy = e.Message, cmp.Or(e.Hint, r.remedy)
	}
	return r
}

// answer writes a refusal. For a report that is taken there is no body.
func answer(w http.ResponseWriter, r *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	switch r.status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusRequestTimeout, http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close") // the rest of the body is not waited for
	}
	body, _ := json.Marshal(struct {
		Code    sluice.Code `json:"code"`
		Message string      `json:"message"`
		Hint    string      `json:"hint,omitempty"`
	}{r.code, r.message, r.hint})
	w.WriteHeader(r.status)
	_, _ = w.Write(body)
}
