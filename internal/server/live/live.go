// Package live holds what is happening now, in memory and bounded: the process
// tables of all agents, the feed of events as they are stored, and what is
// wrong with the server itself.
//
// It is not a store: after a restart of the server it is empty until the
// agents have reported.
package live
