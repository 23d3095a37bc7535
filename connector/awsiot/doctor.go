package awsiot

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"iter"
	"slices"
	"strings"
	"time"

	"sluice"
)

// stepTimeout bounds one step of an examination.
const stepTimeout = 15 * time.Second

// anyHint is the next step where nothing better is known.
const anyHint = "Try again. If it stays so, look into the log of AWS IoT (CloudWatch, AWSIotLogsV2), where one is kept."

var (
	_ sluice.Examiner = (*Connector)(nil)
	_ sluice.Advisor  = (*Connector)(nil)
)

// doctor examines one configuration.
//
// It harms nothing. Its client ids are its own, so no session is thrown out.
// It subscribes as an onlooker: what it receives, others receive too. What it
// publishes goes to the topic of a device that does not exist, "sluice-test",
// without a DevEUI_... root, so that no rule of AWS that reads such documents
// finds anything in it, and it is marked with a user property by which Sluice's
// own sessions drop it. It makes a thing only when asked, and only when it may
// delete it again.
type doctor struct {
	c    *Connector
	spec sluice.DialerSpec
	cfg  config
	x    sluice.Examination
	d    *dialer // may be without client certificate and topics
	pool *x509.CertPool
	// able is false where the configuration does not even make a Dialer.
	able bool

	report func(sluice.Step)
	failed map[string]string // steps that did not go well, with their titles

	session  *session         // of the connect step
	deaf     bool             // what shadows need to hear is not granted
	tries    int              // CONNECTs so far
	created  bool             // there is a thing to be deleted
	attached bool             // and a certificate attached to it
	random   string           // of this examination
	api      *inquiry         // nil: there is no access key
	state    certificateState // of the certificate, once asked for
}

// step is one step of an examination. It is skipped where one that it needs
// did not go well.
type step struct {
	id, title string
	needs     string
	run       func(ctx context.Context) finding
}

// finding is how a step went.
type finding struct {
	state               sluice.StepState
	cause, detail, hint string
}

func well(detail string) finding { return finding{state: sluice.StepOK, detail: detail} }

func skipped(detail string) finding { return finding{state: sluice.StepSkipped, detail: detail} }

func wrong(cause, detail, hint string) finding {
	return finding{state: sluice.StepFailed, cause: cause, detail: detail, hint: hint}
}

func odd(cause, detail, hint string) finding {
	return finding{state: sluice.StepWarning, cause: cause, detail: detail, hint: hint}
}

// Examine tries a configuration step by step.
func (c *Connector) Examine(ctx context.Context, spec sluice.DialerSpec, x sluice.Examination, report func(sluice.Step)) {
	if spec.Clock == nil {
		spec.Clock = time.Now
	}
	spec.Events = nil // what goes wrong here is told by the steps
	spec.Things = forgetful{}
	e := &doctor{
		c: c, spec: spec, cfg: readConfig(spec.Connection.Configuration), x: x, report: report,
		failed: map[string]string{}, random: randomName(),
	}
	e.cfg.CreateDevices = spec.Common.CreateDevices
	defer e.close()
	e.prepare()
	for _, s := range e.steps() {
		if ctx.Err() != nil {
			return
		}
		e.take(ctx, s)
	}
}

// forgetful is a memory of things that keeps nothing.
type forgetful struct{}

func (forgetful) Get(string) (sluice.Thing, bool) { return sluice.Thing{}, false }
func (forgetful) Put(string, sluice.Thing)        {}

// All has none.
func (forgetful) All() iter.Seq2[string, sluice.Thing] {
	return func(func(string, sluice.Thing) bool) {}
}

func randomName() string {
	raw := make([]byte, 4)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// prepare makes a dialer, as whole as the configuration allows.
func (e *doctor) prepare() {
	made, err := e.c.Dialer(e.spec)
	e.d, e.able = made.(*dialer)
	if err != nil {
		e.able = false
		e.d = &dialer{o: e.c.o, spec: e.spec, cfg: e.cfg, told: map[string]time.Time{}}
		e.d.host, e.d.port = e.cfg.dataAddress()
	}
	e.pool, _ = readPool(e.cfg.CACertificate) // what is wrong with it is told by a step
	e.api = newInquiry(e)
}

func (e *doctor) close() {
	if e.session != nil {
		e.hangUp(e.session, true)
	}
	if e.able {
		e.d.Close()
	}
	if e.created { // it was broken off in between
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		e.removeThing(ctx)
		cancel()
	}
	if e.api != nil {
		e.api.close()
	}
}

func (e *doctor) steps() []step {
	return slices.Concat(e.nearSteps(), e.linkSteps(), e.stateSteps(), e.accountSteps())
}

// nearSteps are up to the server, TLS included.
func (e *doctor) nearSteps() []step {
	return []step{
		{"configuration", "Configuration complete", "", e.checkConfiguration},
		{"region", "Region, endpoint and certificate agree", "", e.checkRegion},
		{"certificate", "Certificate and key readable and matching", "", e.checkCertificate},
		{"name", "Name resolves", "", e.resolve},
		{"port", "Port opens", "name", e.openPort},
		{"clock", "Clock", "", e.checkClock},
		{"tls", "TLS: the server is who it says", "port", e.handshake},
	}
}

// linkSteps are of MQTT: uplinks and commands.
func (e *doctor) linkSteps() []step {
	return []step{
		{"accepted", "Certificate known and active", "certificate tls", e.connect},
		{"connect", "CONNECT allowed", "accepted", e.connected},
		{"persistent", "Commands kept while away", "connect", e.persist},
		{"subscribe", "SUBSCRIBE allowed", "connect", e.subscribe},
		{"publish", "PUBLISH allowed", "connect", e.publish},
		{"receive", "Published and received back", "connect", e.receive},
	}
}

// stateSteps are of presence and shadows, where they are configured.
func (e *doctor) stateSteps() []step {
	var list []step
	if e.cfg.PresenceTopic != "" {
		list = append(list, step{"presence", "Presence told", "connect", e.presence})
	}
	if !e.cfg.Shadow.Enabled {
		return list
	}
	rest, requests := e.cfg.Protocol == protocolHTTPS, "connect"
	if rest {
		requests = "certificate tls"
	}
	if !rest || e.cfg.Shadow.Desired {
		list = append(list, step{"shadow_subscribe", "Shadows heard", "connect", e.hearShadows})
	}
	return append(list, step{"shadow", "Shadows may be updated", requests, e.askShadow})
}

// accountSteps ask the AWS IoT API.
func (e *doctor) accountSteps() []step {
	return []step{
		{"api", "AWS IoT API answers", "", e.reachAPI},
		{"key", "Access key accepted", "api", e.checkKey},
		{"endpoint", "Endpoint is this account's", "key", e.checkEndpoint},
		{"describe", "iot:DescribeThing allowed", "key", e.mayDescribe},
		{"type", "Thing type exists", "key", e.checkType},
		{"create", "iot:CreateThing allowed", "key", e.mayCreate},
		{"attach", "iot:AttachThingPrincipal allowed", "key", e.mayAttach},
	}
}

// take takes a step and tells how it went.
func (e *doctor) take(ctx context.Context, s step) {
	out := sluice.Step{ID: s.id, Title: s.title}
	f := finding{}
	if before := e.unmet(s.needs); before != "" {
		f = skipped("Not tried, because this did not go well: " + before + ".")
	} else if names := e.lacks(s.id); len(names) > 0 {
		f = skipped("Not tried, because the configuration lacks " + strings.Join(names, ", ") + ".")
		e.failed[s.id] = "Configuration complete"
	} else {
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, stepTimeout)
		f = s.run(bounded)
		cancel()
		out.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	}
	if f.hint == "" && f.cause != "" {
		f.hint = anyHint
	}
	out.State, out.Cause, out.Detail, out.Hint = f.state, f.cause, f.detail, f.hint
	if f.state == sluice.StepFailed {
		e.failed[s.id] = s.title
	} else if f.state == sluice.StepSkipped && e.unmet(s.needs) != "" {
		e.failed[s.id] = e.unmet(s.needs) // so the first cause is named
	}
	e.report(out)
}

// unmet is the title of the first needed step that did not go well; "": none.
func (e *doctor) unmet(needs string) string {
	for id := range strings.FieldsSeq(needs) {
		if title, ok := e.failed[id]; ok {
			return title
		}
	}
	return ""
}

// checkConfiguration tells what Check has found, but for what the next steps
// say better.
func (e *doctor) checkConfiguration(context.Context) finding {
	_, found := e.c.Check(e.spec.Connection.Configuration)
	var texts []string
	cause := "configuration"
	for _, p := range slices.Concat(e.x.Problems, found) {
		if (p.Path == "certificate" || p.Path == "privateKey") && e.cfg.given[p.Path] {
			continue
		}
		if len(texts) == 0 && strings.HasSuffix(p.Path, "TopicPattern") && e.cfg.given[p.Path] {
			cause = "topic_refused"
		}
		text := p.Path + ": " + strings.TrimSuffix(p.Message, ".") + "."
		again := func(told string) bool {
			return told == text || p.Message == missingText(p.Path) && strings.HasPrefix(told, p.Path+": ")
		}
		if !slices.ContainsFunc(texts, again) {
			texts = append(texts, text)
		}
	}
	if len(texts) > 0 {
		hint := "Correct what is named; a configuration like this is not stored."
		if len(e.cfg.missing) > 0 {
			hint += " " + setupHint
		}
		return wrong(cause, strings.Join(texts, " "), hint)
	}
	return well("Everything needed is there and has the right form.")
}
