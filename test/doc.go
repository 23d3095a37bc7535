// Package test holds the end-to-end tests: the program itself as a process,
// between a simulated ThingPark and the AWS IoT emulator, on real wires.
package test
