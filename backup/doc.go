// Package backup copies the data of a Sluice that runs into one file, and makes
// a data directory of such a file.
//
// # The file
//
// It is a tar archive that is written in one go, without knowing how much is to
// come:
//
//	sluice-backup.json     format, version of Sluice, time
//	streams/NAME/00000001  what JetStream's snapshot of a stream says, in
//	                       pieces of 1 MiB
//	manifest.json          the streams with configuration, sequences and
//	                       checksums; the installation's name; what is in it
//	secret.key             the key of the secrets, where it was asked for
//	end                    SHA-256 of all bytes before
//
// A file that was cut off has no end, and one that was changed anywhere does not
// agree with it. Both are refused before anything is made of them.
//
// # What holds together
//
// Streams are copied one after another while they are written to, so what is in
// them belongs to different moments. The order makes that harmless:
//
//   - BOOKS, the positions, first: what they call done was done before
//     anything else is copied. Were they copied later, they would call done
//     what is nowhere in the copy.
//   - SLUICE, the entries, last: what moves into it from elsewhere (a retry, a
//     replay) is found there if it is not found where it came from. Everything
//     that was accepted before the backup began is in it.
//   - The others between them.
//
// Positions that are older than the entries are what a crash leaves, and are
// met as such: what was done in between is done again, under the same ids.
// From before BOOKS until after SLUICE nothing is taken out of the journal
// (see [Journal]): entries that a position still calls undone would look like
// damage if they were trimmed in between.
//
// JetStream's snapshot (nats-server 2.15) reads message by message up to the
// last one there was when it began, under the stream's lock for one message at a
// time. A message that is deleted meanwhile is missing from it. In a stream
// that holds the last value of each subject (BOOKS, configuration) a value that
// is replaced is then missing altogether, without an error. So streams are
// compared after they were copied, and copied again if anything was deleted; only
// one that sheds its oldest by a limit may lose those. That is why all but SLUICE,
// from which nothing is deleted, are first copied to a temporary file.
package backup
