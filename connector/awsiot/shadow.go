package awsiot

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

// shadowSpacing is the least time between two requests to one shadow: AWS
// promises no order for two that come close together.
const shadowSpacing = time.Second

// deniedShadowPause is how long no shadow is updated after AWS has refused one
// for want of a permission, or has closed links because of it, perhaps: the
// uplinks of these links come first.
const deniedShadowPause = 5 * time.Minute

// lostToShadows is how many links may be lost in a row in the middle of an
// update before it is taken for the cause.
const lostToShadows = 3

const shadowPrefix = "$aws/things/"

// isShadowTopic tells a request from an uplink, whose topic cannot begin so.
func isShadowTopic(topic string) bool { return strings.HasPrefix(topic, shadowPrefix) }

// shadows keep the shadows of a connection's devices up to date, and take
// commands from them. What a shadow says is the latest state and no record: an
// update is made of an uplink that was delivered, the newest of a device wins,
// and one that is lost is made good by the next uplink.
//
// The requests go out through the sessions of the pool, after the uplinks that
// wait there. The answers that matter come over a link of their own; where the
// sessions are those of HTTPS, only deltas do.
type shadows struct {
	d     *dialer
	cfg   shadowConfig
	rest  bool // the requests go by the REST API
	queue *shadowQueue
	names *thingNames

	ctx    context.Context //nolint:containedctx // ends with close
	cancel func()
	all    sync.WaitGroup
	once   sync.Once // starts what runs as long as there are sessions

	token atomic.Uint64 // of the requests
	lost  atomic.Int32  // links lost in a row
	open  *openSessions

	wishes *wishes // commands
}

// newShadows makes the shadows of a dialer; nil where there are none.
func newShadows(d *dialer) (*shadows, error) {
	if !d.cfg.Shadow.Enabled {
		return nil, nil //nolint:nilnil // its methods take nil
	}
	h := &shadows{d: d, cfg: d.cfg.Shadow, rest: d.cfg.Protocol == protocolHTTPS, open: newOpenSessions()}
	h.queue = newShadowQueue(d.o.ShadowSpacing, d.o.PubackTimeout, h.tellSilent)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.cfg.Desired {
		h.wishes = newWishes()
	}
	var err error
	h.names, err = newThingNames(d)
	return h, err
}

// close ends all that runs and waits for it. What waits is given up.
func (h *shadows) close() {
	if h == nil {
		return
	}
	h.cancel()
	h.all.Wait()
}

// serve lets a session carry requests, as long as it is up.
func (h *shadows) serve(p *porter) {
	h.once.Do(func() {
		h.all.Go(func() { h.queue.dispatch(h.ctx) })
		if h.rest {
			h.queue.listen(true) // the answers come with the requests
		}
		if len(h.filters()) > 0 {
			seat := h.d.desks.join(h.linkKey()) // before the session of a configuration before is ended
			h.all.Go(func() { h.listen(h.ctx, seat) })
		}
		if h.wishes != nil {
			h.all.Go(func() { h.settleAll(h.ctx) })
		}
	})
	h.all.Go(func() { h.employ(p) })
}

// delivered takes a message that the cloud has acknowledged. It does not block.
func (h *shadows) delivered(m *sluice.Message) {
	if h == nil {
		return
	}
	if m.Replayed || m.Retries != 0 {
		return // it is old
	}
	room := true
	switch {
	case m.Kind == sluice.KindUplink:
		room = h.uplink(m)
	case h.wishes != nil:
		fate, is := fateOf(m)
		if thing, named := h.names.of(m); is && named {
			room = h.queue.befall(m.DevEUI, thing, fate)
		}
	}
	if !room {
		h.tell("room", m.DevEUI, &sluice.Failure{
			Reason:  sluice.ReasonThrottled,
			Message: "There is no room for more updates of shadows, and one was given up; the next uplink of the device brings a newer one.",
			Hint:    "Shadows are updated after uplinks, within AWS's quotas: more sessions (poolSize) make room.",
		})
	}
}

// uplink is to do what an uplink gives rise to; false where there is no room.
func (h *shadows) uplink(m *sluice.Message) bool {
	thing, ok := h.names.of(m)
	if !ok {
		return true
	}
	room := !h.cfg.Reported || h.report(m, thing)
	if h.wishes != nil && h.wishes.first(m.DevEUI) {
		room = h.queue.look(m.DevEUI, thing) && room
	}
	return room
}

// report is to report the values of an uplink.
func (h *shadows) report(m *sluice.Message, thing string) bool {
	values := h.cfg.reported(m)
	if dropped := values.fit(); len(dropped) > 0 {
		h.tell("size "+m.DevEUI, m.DevEUI, &sluice.Failure{
			Reason: sluice.ReasonTooLarge,
			Message: fmt.Sprintf("The values of device %s are larger than a shadow, which holds %d bytes. Left out: %s.",
				m.DevEUI, maxShadow, clipText(strings.Join(dropped, ", "), 200)),
			Hint: "Choose what is reported with shadow.fields.",
		})
	}
	return len(values) == 0 || h.queue.offer(m.DevEUI, thing, values)
}

// topic is that of a request to a shadow, or of an answer.
func (c *shadowConfig) topic(thing, operation string) string {
	if c.Name == "" {
		return shadowPrefix + thing + "/shadow/" + operation
	}
	return shadowPrefix + thing + "/shadow/name/" + c.Name + "/" + operation
}

// parse reads a topic of an answer.
func (c *shadowConfig) parse(topic string) (thing, operation string, ok bool) {
	rest, ok := strings.CutPrefix(topic, shadowPrefix)
	if !ok {
		return "", "", false
	}
	thing, rest, _ = strings.Cut(rest, "/")
	middle := "shadow/"
	if c.Name != "" {
		middle += "name/" + c.Name + "/"
	}
	operation, ok = strings.CutPrefix(rest, middle)
	return thing, operation, ok
}

// tokens begins the client tokens of this connection's requests. AWS takes 64
// bytes.
func (h *shadows) tokens() string {
	p := "sluice-" + h.d.spec.Instance + "-" + h.d.spec.Connection.ID
	return p[:min(len(p), 40)] + "-"
}

func (h *shadows) newToken() string {
	return h.tokens() + strconv.FormatInt(h.d.spec.Clock().UnixMilli(), 36) + "-" + strconv.FormatUint(h.token.Add(1), 36)
}

// tell tells an event, once for a cause within a time.
func (h *shadows) tell(kind, devEUI string, f *sluice.Failure) {
	h.d.tell(sluice.LevelWarning, sluice.EventShadowFailed, "Shadow not updated", kind, devEUI, f)
}

// tellSilent tells of a shadow that does not answer.
func (h *shadows) tellSilent(device string) {
	h.tell("silent", device, &sluice.Failure{
		Reason:  sluice.ReasonTimeout,
		Message: "AWS does not answer when the shadow of device " + device + " is asked for; it is asked for again and again.",
		Hint:    h.subscribeHint(),
	})
}

func clipText(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// openSessions counts the sessions that are open.
type openSessions struct {
	mu      sync.Mutex
	n       int
	changed chan struct{}
}

func newOpenSessions() *openSessions { return &openSessions{changed: make(chan struct{})} }

func (o *openSessions) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
	close(o.changed)
	o.changed = make(chan struct{})
}

// await waits until one is open; false once ctx ends.
func (o *openSessions) await(ctx context.Context) bool {
	for {
		o.mu.Lock()
		n, changed := o.n, o.changed
		o.mu.Unlock()
		if n > 0 {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
