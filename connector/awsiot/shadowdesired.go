package awsiot

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	"github.com/tidwall/gjson"

	"sluice"
)

// The bounds of what is remembered of commands.
const (
	wishesKnown    = 50_000 // devices whose command was taken and is not answered
	wishesFirst    = 200_000
	wishesIgnored  = 10_000
	answersWaiting = 256
)

// wishes are what is known of the commands that shadows desire. What was taken
// lies in the journal, and what is done with in the shadow; this saves asking.
type wishes struct {
	handing sync.Mutex // of who sends to answers
	answers chan shadowAnswer

	mu      sync.Mutex
	taken   map[string]takenWish // by device
	order   []string             // of taken, oldest first
	looked  map[string]bool      // devices whose shadow was read since something was missed
	missing bool                 // something may have been missed
	ignored map[string]bool      // devices whose delta says nothing to us, that was told
	forget  bool                 // AWS is to keep nothing

	desks   []*shadowDesk // of the lanes that take commands; the last one is asked
	changed chan struct{}
}

// takenWish is the command of a device that was taken last.
type takenWish struct {
	id   string
	bell [sha256.Size]byte // the delta that told of it
}

// shadowDesk is who takes the commands of shadows.
type shadowDesk struct {
	owner *shadowCommander
	take  taker
	ctx   context.Context //nolint:containedctx // of the taking
	end   func()
	busy  sync.WaitGroup
}

func newWishes() *wishes {
	return &wishes{
		answers: make(chan shadowAnswer, answersWaiting), taken: map[string]takenWish{}, looked: map[string]bool{},
		ignored: map[string]bool{}, changed: make(chan struct{}),
	}
}

// missed notes that deltas may have been missed: each device's shadow is read
// once after its next uplink, which is when a device hears commands, too.
func (w *wishes) missed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = true
	clear(w.looked)
}

// strange notes a delta of a thing of which no uplink was seen, so that it may
// be a device: the shadows of those that come are read once, too.
func (w *wishes) strange() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = true
}

// first reports whether the shadow of a device is to be read after an uplink.
func (w *wishes) first(device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looked[device] {
		return false
	}
	if len(w.looked) >= wishesFirst {
		clear(w.looked) // better read twice
	}
	w.looked[device] = true
	return w.missing
}

func (w *wishes) forgotten() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.forget
}

// known reports whether a command was taken before.
func (w *wishes) known(device, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken[device].id == id
}

// rung reports whether a delta tells of a command that was taken.
func (w *wishes) rung(device string, bell [sha256.Size]byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.taken[device]
	return ok && t.bell == bell
}

func (w *wishes) remember(device string, t takenWish) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.taken[device]; !ok {
		if len(w.order) >= wishesKnown {
			delete(w.taken, w.order[0])
			w.order = w.order[1:]
		}
		w.order = append(w.order, device)
	}
	w.taken[device] = t
}

// tellOnce reports whether a device is to be told of: once.
func (w *wishes) tellOnce(device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ignored[device] || len(w.ignored) >= wishesIgnored {
		return false
	}
	w.ignored[device] = true
	return true
}

// ring takes a delta; false where there is nothing to find out.
func (h *shadows) ring(in *session, device, thing string, p *packets.Publish) bool {
	desired := gjson.GetBytes(p.Payload, "state."+shadowDownlink)
	if !desired.Exists() {
		h.ignore(device, "the shadow of device "+device+" desires values, and no "+shadowDownlink)
		return false
	}
	if h.wishes.rung(device, bellHash(p.Payload)) {
		return false
	}
	h.queue.ring(device, thing, in.link, p)
	return true
}

// ignore tells, once for a device, that what its shadow desires is no command.
func (h *shadows) ignore(device, what string) {
	if !h.wishes.tellOnce(device) {
		return
	}
	h.d.record(sluice.LevelWarning, sluice.EventDownlinkIgnored, "Shadow ignored", device, &sluice.Failure{
		Reason:  sluice.ReasonMalformed,
		Message: "Nothing is sent, because " + what + ".",
		Hint:    `Desire a command: {"state":{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}}.`,
	})
}

// tokenOf is the client token of an answer.
func tokenOf(payload []byte) string { return gjson.GetBytes(payload, "clientToken").String() }

// settleLater hands an answer to those who wait for it. It does not block:
// where there is no room the shadow is asked for again.
func (h *shadows) settleLater(device string, payload []byte, again bool) {
	h.wishes.handing.Lock()
	defer h.wishes.handing.Unlock()
	again = again || len(h.wishes.answers) == cap(h.wishes.answers) // nobody else sends
	if a, ok := h.queue.answered(device, payload, again, h.d.o.Rand()); ok {
		h.wishes.answers <- a
	}
}

// settleAll settles answers, one after another, until ctx ends.
func (h *shadows) settleAll(ctx context.Context) {
	for {
		select {
		case a := <-h.wishes.answers:
			if !h.settle(ctx, &a) {
				continue // the deltas come again
			}
			for _, p := range a.bells {
				_ = a.link.acknowledge(p)
			}
		case <-ctx.Done():
			return
		}
	}
}

// settle does what a shadow asks for: it answers a command whose fate is
// known, and takes one that is new. false means that it could not.
func (h *shadows) settle(ctx context.Context, a *shadowAnswer) bool {
	doc := readShadowDocument(a.payload)
	if !doc.desired.Exists() {
		return true
	}
	c, ok := doc.command(a.device)
	if !ok {
		h.ignore(a.device, "the desired "+shadowDownlink+" of device "+a.device+" is no object")
		return true
	}
	if answer := h.answer(&c, &doc, a.fates); answer != nil {
		if !h.queue.offer(a.device, a.thing, answer) {
			h.d.spec.Log.Warn("no room to tell a shadow what became of its command", "device", a.device)
		}
		return true
	}
	if !doc.differs || h.wishes.known(a.device, c.id) {
		return true
	}
	took := h.take(ctx, sluice.Command{
		DevEUI: a.device, Source: h.cfg.topic(a.thing, "update/delta"), Document: c.document, ID: "shadow-" + c.id,
	})
	if took {
		t := takenWish{id: c.id}
		if len(a.bells) > 0 {
			t.bell = bellHash(a.bells[len(a.bells)-1].Payload)
		}
		h.wishes.remember(a.device, t)
	}
	return took
}

// answer is what is reported of a command by the last of the fates that is
// its; nil where none is.
func (h *shadows) answer(c *shadowCommand, doc *shadowDocument, fates []shadowFate) members {
	for i := len(fates) - 1; i >= 0; i-- {
		if !strings.EqualFold(fates[i].correlation, c.correlation) {
			continue
		}
		answer, err := c.answer(fates[i], doc.reported)
		if err != nil {
			h.d.spec.Log.Error("a command of a shadow cannot be answered", "err", err)
			return nil
		}
		return answer
	}
	return nil
}

// take hands a command over until it is taken; false where that ends before.
func (h *shadows) take(ctx context.Context, c sluice.Command) bool {
	for pause := firstTakePause; ; pause = min(2*pause, lastTakePause) {
		desk, changed := h.wishes.present()
		if desk == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return false
			}
		}
		err := desk.offer(ctx, c)
		if err == nil {
			return true
		}
		verdict, after := sluice.VerdictOf(err)
		if verdict == sluice.Permanent {
			h.d.tell(sluice.LevelError, sluice.EventDownlinkIgnored, "Command not taken", "take shadow", c.DevEUI, &sluice.Failure{
				Reason: sluice.ReasonOf(err), Message: "A command of the shadow of device " + c.DevEUI + " cannot be taken: " + message(err),
			})
			return false
		}
		if verdict == sluice.RetryAfter {
			pause = max(pause, min(after, lastTakePause))
		}
		if !sleep(ctx, pause, nil, nil) {
			return false
		}
	}
}

// offer hands a command over, once.
func (k *shadowDesk) offer(ctx context.Context, c sluice.Command) error {
	defer k.busy.Done()
	taking, cancel := context.WithCancel(k.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return k.take(taking, c)
}

// present is who takes commands now, busy with one more; or a channel that
// tells that it may have changed.
func (w *wishes) present() (*shadowDesk, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.desks) == 0 {
		return nil, w.changed
	}
	desk := w.desks[len(w.desks)-1]
	desk.busy.Add(1)
	return desk, w.changed
}

// sit has an owner take commands from now on.
func (w *wishes) sit(desk *shadowDesk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.desks = append(w.desks, desk)
	close(w.changed)
	w.changed = make(chan struct{})
}

// rise has owner take no more commands, and returns what it took them with.
func (w *wishes) rise(owner *shadowCommander) *shadowDesk {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.desks, func(k *shadowDesk) bool { return k.owner == owner })
	if i < 0 {
		return nil
	}
	desk := w.desks[i]
	w.desks = slices.Delete(w.desks, i, i+1)
	return desk
}

// shadowCommander is a session of a connection that takes commands from shadows, and
// from a topic where there is one.
type shadowCommander struct {
	commandSession
	d *dialer
}

// commandSession is a session that takes commands from a topic.
type commandSession interface {
	sluice.Session
	sluice.Subscriber
	sluice.Ender
}

var (
	_ sluice.Subscriber = (*shadowCommander)(nil)
	_ sluice.Ender      = (*shadowCommander)(nil)
)

// Subscribe subscribes to the commands. Those of topics and those of shadows
// are taken one after another.
func (c *shadowCommander) Subscribe(ctx context.Context, take func(ctx context.Context, c sluice.Command) error) error {
	turn := make(chan struct{}, 1)
	inTurn := func(ctx context.Context, cmd sluice.Command) error {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-turn }()
		return take(ctx, cmd)
	}
	if c.d.downlink != nil {
		if err := c.commandSession.Subscribe(ctx, inTurn); err != nil {
			return err
		}
	}
	desk := &shadowDesk{owner: c, take: inTurn}
	desk.ctx, desk.end = context.WithCancel(context.Background())
	c.d.shadows.wishes.sit(desk)
	return nil
}

// Close lets the command that is being taken finish, and closes the session.
func (c *shadowCommander) Close(ctx context.Context) error {
	c.leave(ctx)
	return c.commandSession.Close(ctx)
}

// End is Close, after which AWS keeps nothing for the link of the shadows.
func (c *shadowCommander) End(ctx context.Context) error {
	w := c.d.shadows.wishes
	w.mu.Lock()
	w.forget = true
	w.mu.Unlock()
	c.leave(ctx)
	return c.commandSession.End(ctx)
}

func (c *shadowCommander) leave(ctx context.Context) {
	desk := c.d.shadows.wishes.rise(c)
	if desk == nil {
		return
	}
	stop := context.AfterFunc(ctx, desk.end)
	desk.busy.Wait()
	stop()
	desk.end()
}
