package flow

import (
	"strings"
	"time"

	"sluice"
)

// keyPrefix begins the key of a matcher by identity. Source: ThingPark X IoT
// Flow documentation, "Flow".
const keyPrefix = "lora:"

// destination is one connection of one flow.
type destination struct {
	connection string
	driver     string
	validity   time.Duration
}

// rule is one way to match, with the place of its flow in the order.
type rule struct {
	flow int
	tags []string // all of them, lower-cased; empty for a rule by key or for all
}

// table is the flows, laid out for matching. It never changes once made.
type table struct {
	flows    [][]destination
	always   []int            // flows that take every device, ascending
	byKey    map[string][]int // DevEUI in upper case to flows, ascending
	byTags   []rule           // ascending by flow
	networks map[string]bool
	only     string // the one network, where there is just one
}

func newTable(flows []sluice.Flow, networks []string) *table {
	t := &table{byKey: map[string][]int{}, networks: make(map[string]bool, len(networks))}
	for _, n := range networks {
		t.networks[n] = true
	}
	if len(networks) == 1 {
		t.only = networks[0]
	}
	for i, f := range flows {
		driver := ""
		if f.Driver != nil {
			driver = f.Driver.ID
		}
		ds := make([]destination, 0, len(f.Connectors))
		for _, c := range f.Connectors {
			// The duration was checked when the flow was stored.
			validity, _ := time.ParseDuration(c.UplinkTimeValidity)
			ds = append(ds, destination{connection: c.ConnectionID, driver: driver, validity: validity})
		}
		t.flows = append(t.flows, ds)
		t.addMatchers(i, f.Matchers)
	}
	return t
}

func (t *table) addMatchers(flow int, ms []sluice.Matcher) {
	if len(ms) == 0 {
		t.always = append(t.always, flow)
		return
	}
	for _, m := range ms {
		switch m.Type {
		case sluice.MatcherKey:
			key := strings.ToUpper(m.Key)
			if eui, ok := strings.CutPrefix(key, strings.ToUpper(keyPrefix)); ok {
				t.byKey[eui] = append(t.byKey[eui], flow)
			}
		case sluice.MatcherThing:
			tags := make([]string, len(m.Tags))
			for i, tag := range m.Tags {
				tags[i] = strings.ToLower(tag)
			}
			t.byTags = append(t.byTags, rule{flow: flow, tags: tags})
		}
	}
}

// match calls found once for each connection that wants the device: with the
// first flow, in their order, that leads there.
func (t *table) match(devEUI string, tags []string, found func(*destination)) {
	var few [8]string
	taken := few[:0]
	take := func(flow int) {
		for i := range t.flows[flow] {
			d := &t.flows[flow][i]
			if !contains(taken, d.connection) {
				taken = append(taken, d.connection)
				found(d)
			}
		}
	}
	keyed := t.byKey[devEUI]
	always, byTags := t.always, t.byTags
	// Three ascending lists are merged, so that the order of the flows
	// decides, not the kind of their matchers.
	for {
		next, from := -1, 0
		lower := func(flow, list int) {
			if next < 0 || flow < next {
				next, from = flow, list
			}
		}
		if len(always) > 0 {
			lower(always[0], 1)
		}
		if len(keyed) > 0 {
			lower(keyed[0], 2)
		}
		if len(byTags) > 0 {
			lower(byTags[0].flow, 3)
		}
		switch from {
		case 0:
			return
		case 1:
			always = always[1:]
		case 2:
			keyed = keyed[1:]
		case 3:
			r := byTags[0]
			byTags = byTags[1:]
			if !holds(tags, r.tags) {
				continue
			}
		}
		take(next)
	}
}

// holds reports whether the device's tags hold all of wanted, which are in
// lower case.
func holds(tags, wanted []string) bool {
	for _, w := range wanted {
		found := false
		for _, tag := range tags {
			if strings.EqualFold(tag, w) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
