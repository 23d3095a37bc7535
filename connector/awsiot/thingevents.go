package awsiot

import (
	"fmt"
	"time"

	"sluice"
)

// createdEvery is how often many new things are summed up: often enough to see
// how they come on.
const createdEvery = 10 * time.Second

// stateOfEach is where to look for what an event does not name.
const stateOfEach = "GET /devices shows the state of each."

// makeGatherers makes those who tell of things.
func (r *registry) makeGatherers() {
	record := func(level sluice.Level, t sluice.EventType, label, devEUI string, f sluice.Failure) {
		r.d.record(level, t, label, devEUI, &f)
	}
	ofType := ""
	if t := r.wish.thingType; t != "" {
		ofType = " of type " + t
	}
	r.created = &gatherer{
		every: createdEvery,
		one: func(devEUI, name string) {
			record(sluice.LevelInfo, sluice.EventThingCreated, "Thing created", devEUI, sluice.Failure{
				Message: fmt.Sprintf("Thing %s%s was created.", name, ofType),
			})
		},
		many: func(n int, examples string) {
			record(sluice.LevelInfo, sluice.EventThingCreated, "Things created", "", sluice.Failure{
				Message: fmt.Sprintf("%d things%s were created: %s.", n, ofType, examples), Hint: stateOfEach,
			})
		},
	}
	r.absent = &gatherer{
		every: tellAgain,
		one: func(devEUI, _ string) {
			record(sluice.LevelWarning, sluice.EventThingMissing, "Thing missing", devEUI, *missingThing(devEUI))
		},
		many: func(n int, examples string) {
			f := missingThing("")
			f.Message = fmt.Sprintf("There are no things for %d devices in AWS IoT, and createDevices is off: %s.", n, examples)
			f.Hint = "Create the things, or set createDevices. " + stateOfEach
			record(sluice.LevelWarning, sluice.EventThingMissing, "Things missing", "", *f)
		},
	}
	again := ""
	if r.wish.create {
		again = madeAgain
	}
	r.deleted = &gatherer{
		every: tellAgain,
		one: func(devEUI, name string) {
			record(sluice.LevelWarning, sluice.EventThingDeleted, "Thing deleted", devEUI, sluice.Failure{
				Reason: sluice.ReasonThingMissing, Message: fmt.Sprintf("Thing %s is not in AWS IoT any more: it was deleted there.", name), Hint: again,
			})
		},
		many: func(n int, examples string) {
			record(sluice.LevelWarning, sluice.EventThingDeleted, "Things deleted", "", sluice.Failure{
				Reason:  sluice.ReasonThingMissing,
				Message: fmt.Sprintf("%d things are not in AWS IoT any more: they were deleted there: %s.", n, examples), Hint: stateOfEach,
			})
		},
	}
}

// missingThing is why a device's messages are skipped.
func missingThing(devEUI string) *sluice.Failure {
	return &sluice.Failure{
		Verdict: sluice.Permanent, Reason: sluice.ReasonThingMissing,
		Message: fmt.Sprintf("There is no thing for %s in AWS IoT, and createDevices is off.", devEUI),
		Hint:    "Create the thing, or set createDevices.",
	}
}

// missingFailure skips a message, and tells so once in a while for a device.
func (r *registry) missingFailure(devEUI string) error {
	if !r.d.toldBefore(string(sluice.EventThingMissing) + " " + devEUI) {
		r.absent.add(devEUI, devEUI)
	}
	return missingThing(devEUI)
}

const madeAgain = "It is created again when its device sends the next uplink."

// gone tells that a thing is no more, and what is to be remembered of it. It is
// made again when its device speaks: a device that was taken out of service
// keeps its peace.
func (r *registry) gone(j *job) sluice.Thing {
	detail := "It was deleted in AWS IoT."
	if r.wish.create {
		detail += " " + madeAgain
	}
	r.deleted.add(j.devEUI, j.name)
	return sluice.Thing{State: sluice.ThingMissing, Detail: detail, Tag: r.wish.tag}
}
