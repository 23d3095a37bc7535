package awsiot

import (
	"strconv"
	"strings"
	"sync"

	"sluice"
)

// wishesNamed bounds the names that are remembered, where they say nothing of
// the device.
const wishesNamed = 200_000

// thingNames tell which thing's shadow is a device's, as thingNamePattern says,
// and the other way round.
type thingNames struct {
	wish   wish
	things sluice.Things

	mu      sync.Mutex
	devices map[string]string // by thing, of uplinks; where the name does not tell
	names   map[string]string // by device
}

func newThingNames(d *dialer) (*thingNames, error) {
	w, err := newWish(&d.cfg)
	return &thingNames{wish: w, things: d.spec.Things, devices: map[string]string{}, names: map[string]string{}}, err
}

// of is the name of the thing that a message is of; false where it has none.
func (n *thingNames) of(m *sluice.Message) (string, bool) {
	if n.wish.plain {
		return n.wish.nameFor(m.DevEUI), true
	}
	if m.Kind != sluice.KindUplink { // it may lack what the name is made of
		return n.remembered(m.DevEUI)
	}
	name, refused := n.wish.nameOf(m)
	if refused != nil {
		return "", false // the registry tells
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.devices) >= wishesNamed {
		clear(n.devices) // the next uplinks bring them
		clear(n.names)
	}
	n.devices[name], n.names[m.DevEUI] = m.DevEUI, name
	return name, true
}

// remembered is the name that the last uplink of a device had, or that it has
// in the registry.
func (n *thingNames) remembered(device string) (string, bool) {
	n.mu.Lock()
	name, ok := n.names[device]
	n.mu.Unlock()
	if !ok && n.things != nil {
		t, _ := n.things.Get(device)
		name = t.Name
	}
	return name, name != ""
}

// device is that of a thing; false for one that is not known as a device.
func (n *thingNames) device(thing string) (string, bool) {
	if n.wish.plain {
		device, ok := n.wish.name.Match(thing)
		return device, ok && isDevEUI(device) && n.wish.nameFor(device) == thing
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	device, ok := n.devices[thing]
	return device, ok
}

func isDevEUI(s string) bool {
	_, err := strconv.ParseUint(s, 16, 64)
	return len(s) == 16 && err == nil && strings.ToUpper(s) == s
}
