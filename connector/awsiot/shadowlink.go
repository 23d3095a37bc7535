package awsiot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// The pauses between two tries to open the link of the shadows.
const (
	firstListenPause = time.Second
	lastListenPause  = 5 * time.Minute
)

// filters are what the link of the shadows is subscribed to. There is no
// update/accepted among them: it would come once for each update, at most 100
// a second, and the acknowledgement of the publish and update/rejected tell
// what there is to know.
//
// By the REST API all answers come with the requests.
func (h *shadows) filters() []paho.SubscribeOptions {
	delta := paho.SubscribeOptions{Topic: h.cfg.topic("+", "update/delta"), QoS: 1}
	switch {
	case h.rest && h.wishes == nil:
		return nil
	case h.rest:
		return []paho.SubscribeOptions{delta}
	}
	list := []paho.SubscribeOptions{{Topic: h.cfg.topic("+", "update/rejected")}}
	if h.wishes != nil {
		list = append(list,
			paho.SubscribeOptions{Topic: h.cfg.topic("+", "get/accepted")},
			paho.SubscribeOptions{Topic: h.cfg.topic("+", "get/rejected")},
			delta)
	}
	return list
}

// linkID is the client id of the link. Where commands are taken it is that of
// a persistent session, so it depends on nothing but the connection and what
// it is subscribed to; see inboxID.
func (h *shadows) linkID() string {
	var topics strings.Builder
	for _, f := range h.filters() {
		topics.WriteString(f.Topic + " ")
	}
	sum := sha256.Sum256([]byte(topics.String()))
	return limited(h.d.name() + "-shadows-" + hex.EncodeToString(sum[:4]))
}

// linkKey tells the session of the link from others.
func (h *shadows) linkKey() string {
	host, _ := h.d.cfg.dataAddress() // at all its ports
	return host + "/" + h.linkID()
}

// listen keeps the link open while a session of the pool is, until ctx ends.
// Shadows are reported without it too; commands wait for it.
func (h *shadows) listen(ctx context.Context, seat *seat) {
	id := h.linkID()
	defer seat.quit()
	for pause := firstListenPause; h.open.await(ctx) && seat.turn(ctx) == nil; {
		in, err := h.openLink(ctx, id)
		if err != nil {
			seat.free()
			if ctx.Err() != nil {
				return
			}
			h.tellDeaf(err)
			if !sleep(ctx, h.jittered(pause), nil, nil) {
				return
			}
			pause = min(2*pause, lastListenPause)
			continue
		}
		opened := time.Now()
		h.hearing(true)
		h.hear(ctx, in, seat)
		h.hearing(false)
		h.d.closeInbox(in, ctx.Err() != nil && h.wishes != nil && h.wishes.forgotten() && seat.alone())
		seat.free()
		if seat.giveWay().Err() != nil {
			continue // another has it now
		}
		if pause = min(2*pause, lastListenPause); time.Since(opened) > lastListenPause {
			pause = firstListenPause
		}
		if !sleep(ctx, h.jittered(pause), nil, nil) {
			return
		}
	}
}

// hearing says whether answers can be heard, where they come over the link.
func (h *shadows) hearing(on bool) {
	if !h.rest {
		h.queue.listen(on)
	}
}

// jittered is from half of d to d.
func (h *shadows) jittered(d time.Duration) time.Duration {
	return time.Duration((1 + h.d.o.Rand()) / 2 * float64(d))
}

// openLink opens the link and subscribes it. Where AWS has kept nothing for us
// the shadows are read that may have changed meanwhile.
func (h *shadows) openLink(ctx context.Context, id string) (*session, error) {
	in := newSession(h.d, id)
	in.persistent = h.wishes != nil
	err := h.d.connect(ctx, in, nil)
	if err != nil && in.persistent && isRefusal(err) {
		cause := err
		in = newSession(h.d, id)
		if err = h.d.connect(ctx, in, nil); err == nil {
			h.tellNotKept(cause)
		}
	}
	if err != nil {
		return nil, err
	}
	if h.wishes != nil && !in.resumed {
		h.wishes.missed()
	}
	if err := h.subscribe(ctx, in); err != nil {
		h.d.closeInbox(in, false)
		return nil, err
	}
	return in, nil
}

func (h *shadows) subscribe(ctx context.Context, in *session) error {
	filters := h.filters()
	ack, err := in.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: filters})
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if ack != nil {
		for i, code := range ack.Reasons {
			if code >= 0x80 && i < len(filters) {
				f := h.d.subscribeFailure(err, code, filters[i].Topic)
				f.Hint = h.subscribeHint()
				return f
			}
		}
	}
	if err == nil {
		return nil
	}
	if dis, _ := in.link.cause(); dis != nil {
		return in.why(nil)
	}
	f := h.d.subscribeFailure(err, 0, filters[0].Topic)
	f.Hint = h.subscribeHint()
	return f
}

// hear takes what comes until the link is lost or another wants it.
func (h *shadows) hear(ctx context.Context, in *session, seat *seat) {
	for {
		select {
		case p := <-in.received:
			h.heard(in, p)
		case <-in.link.lost:
			return
		case <-ctx.Done():
			return
		case <-seat.giveWay().Done():
			return
		}
	}
}

// heard takes an answer or a delta. What is not ours is left alone: other
// things have shadows too, and other clients ask for them.
func (h *shadows) heard(in *session, p *packets.Publish) {
	thing, operation, ok := h.cfg.parse(p.Topic)
	device, ours := h.names.device(thing)
	if ok && !ours && !h.names.wish.plain && h.wishes != nil && operation == "update/delta" {
		h.wishes.strange()
	}
	if ok && ours && h.wishes != nil && operation == "update/delta" && h.ring(in, device, thing, p) {
		return // it is acknowledged later
	}
	if ok && ours {
		h.answered(device, operation, p.Payload)
	}
	if p.QoS > 0 {
		_ = in.link.acknowledge(p) // on a broken link it comes again
	}
}

// answered takes the answer to a request.
func (h *shadows) answered(device, operation string, payload []byte) {
	switch operation {
	case "update/rejected":
		if r := readRejection(payload); h.ours(r) {
			h.refused(device, r)
		}
	case "get/accepted":
		if strings.HasPrefix(tokenOf(payload), h.tokens()) {
			h.settleLater(device, payload, false)
		}
	case "get/rejected":
		r := readRejection(payload)
		if !h.ours(r) {
			return
		}
		if r.Code != http.StatusNotFound {
			h.tellRefused("get", device, r)
		}
		h.settleLater(device, nil, r.Code != http.StatusNotFound)
	}
}

// ours reports whether a rejection is of a request of ours. What is refused
// unread, because there is too much, has no token: ours may be among it.
func (h *shadows) ours(r shadowRejection) bool {
	return strings.HasPrefix(r.Token, h.tokens()) || r.Token == "" && r.Code == http.StatusTooManyRequests
}

// refused takes the rejection of an update.
func (h *shadows) refused(device string, r shadowRejection) {
	if h.queue.refused(device, r.Token, r.again(), h.d.o.Rand()) || r.Token != "" {
		h.tellRefused("update", device, r)
	}
}

// tellRefused tells of a rejection, once for a cause: not for each device.
func (h *shadows) tellRefused(operation, device string, r shadowRejection) {
	f := &sluice.Failure{
		Reason: sluice.ReasonRejected, Status: r.Code,
		Message: fmt.Sprintf("AWS refused to %s the shadow of device %s with %d: %s.", operation, device, r.Code, strings.TrimSuffix(clipText(r.Message, 200), ".")),
	}
	switch r.Code {
	case http.StatusNotFound:
		f.Reason, f.Hint = sluice.ReasonThingMissing, "The next uplink tries again. Is the device a thing in this account?"
	case http.StatusConflict:
		f.Hint = "Others changed the shadow at the same time; it is tried again."
	case http.StatusRequestEntityTooLarge:
		f.Reason, f.Hint = sluice.ReasonTooLarge, "What others put into the shadow counts too: report less with shadow.fields, or use a named shadow."
	case http.StatusTooManyRequests:
		f.Reason, f.Hint = sluice.ReasonThrottled, "It is tried again. AWS takes 20 requests a second of a thing and 4,000 of an account."
	case http.StatusUnauthorized, http.StatusForbidden:
		f.Reason, f.Hint = sluice.ReasonNotAuthorized, h.subscribeHint()
	}
	h.tell(fmt.Sprintf("refused %d", r.Code), device, f)
}

// tellDeaf tells that answers cannot be heard.
func (h *shadows) tellDeaf(err error) {
	f := &sluice.Failure{Reason: sluice.ReasonOf(err), Message: "The answers of shadows are not heard. ", Hint: h.subscribeHint()}
	switch {
	case h.rest:
		f.Message = "No commands are taken from shadows. "
	case h.wishes != nil:
		f.Message = "The answers of shadows are not heard, and no commands are taken from them. "
	}
	f.Message += message(err)
	h.tell("deaf "+string(f.Reason), "", f)
}

// tellNotKept tells that what is desired is not kept while we are not
// connected.
func (h *shadows) tellNotKept(cause error) {
	h.d.tell(sluice.LevelWarning, sluice.EventConfigurationOdd, "Shadow changes not kept", "persistent shadows", "", &sluice.Failure{
		Reason: sluice.ReasonNotAuthorized,
		Message: h.d.host + " does not allow a persistent session, so what a shadow desires while this connection is interrupted is found out after " +
			"the next uplink of its device. " + message(cause),
		Hint: "Allow iot:Connect on " + h.d.arn("client/"+h.linkID()) + " in " + h.d.policy() + "; where it has a condition on " +
			"iot:ConnectAttributes, that condition must allow PersistentConnect.",
	})
}

// subscribeHint names what the link needs.
func (h *shadows) subscribeHint() string {
	var filters, topics []string
	for _, f := range h.filters() {
		filters = append(filters, h.d.arn("topicfilter/"+f.Topic))
		topics = append(topics, h.d.arn("topic/"+strings.ReplaceAll(f.Topic, "+", "*")))
	}
	return "Allow iot:Connect on " + h.d.arn("client/"+h.linkID()) + ", iot:Subscribe on " + strings.Join(filters, ", ") +
		" and iot:Receive on " + strings.Join(topics, ", ") + " in " + h.d.policy() + "."
}
