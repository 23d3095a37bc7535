// Package sluice holds the nouns and the contracts of Sluice, a self-hosted
// bridge between LoRaWAN network servers and the cloud.
//
// A report comes in at a [Network], is matched by a [Flow], lies durably in
// the journal, and is handed by a [Connection] to a [Session] of the cloud.
// A command goes the other way. Every step is one verb, [Handler.Handle], and
// its nil means: I hold it durably, forget it.
//
// This package imports the standard library alone. The rooms (network, flow,
// journal, connection, connector, store, api) import this package and
// internal/, and never each other; package app wires them.
package sluice
