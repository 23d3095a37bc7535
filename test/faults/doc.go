// Package faults puts Sluice under faults and judges what it did: a schedule
// that a seed makes, wires and a cloud that fail on request, a process that is
// killed, disks that are full, lose power or are damaged, and clocks that
// step. The oracle is in a package of its own, and so are the schedule and the
// wire.
//
// docs/reliability.md says what is promised, and how to repeat a run.
package faults
