package awsiot

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"sluice"
)

// claim keeps two devices from having one thing, where names are made of what
// the devices say. r.mu is held.
func (r *registry) claim(devEUI, name string) *refusal {
	if r.owners == nil {
		return nil
	}
	self, key := numberOf(devEUI), hashOf(name)
	owner, ok := r.owners[key]
	if ok && owner != self && r.holds(owner, name) {
		other := euiOf(owner)
		return &refusal{kind: "name " + name, final: true, Failure: sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonConfiguration,
			Message: fmt.Sprintf("The devices %s and %s would both be the thing %s: it stays that of %s.", other, devEUI, name, other),
			Hint:    "Make thingNamePattern tell them apart, as {DevEUI} does.",
		}}
	}
	r.owners[key] = self
	return nil
}

// holds reports whether a device has the thing of a name, or is about to.
func (r *registry) holds(owner uint64, name string) bool {
	devEUI := euiOf(owner)
	if j := r.names[name]; j != nil && j.devEUI == devEUI {
		return true
	}
	t, ok := r.d.spec.Things.Get(devEUI)
	return ok && r.wish.isThere(t) && t.Name == name
}

func hashOf(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// numberOf is a DevEUI as a number.
func numberOf(devEUI string) uint64 {
	n, _ := strconv.ParseUint(devEUI, 16, 64)
	return n
}

func euiOf(number uint64) string { return fmt.Sprintf("%016X", number) }
