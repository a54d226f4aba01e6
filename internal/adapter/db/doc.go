// Package db keeps everything in one SQLite file: it implements store.Store
// with a pure-Go driver, migrations and retention. It decides nothing; what is
// kept, and for how long, is its caller's business.
//
// # How events are found
//
// An ordinary index a filter would cost one b-tree insert an event and filter,
// which no longer gives 50,000 events a second, and still would not answer two
// filters together. So the ids are cut into blocks of 256 neighbours, and one
// table, postings, says which term (an agent, a workload, a group, a kind, an
// executable, an origin, a word) occurs in which block. A batch of 2,000
// events of one agent repeats a few hundred terms, so this costs well under
// one small insert an event. A query walks the lists of its terms from the newest
// block downwards, leaps to the blocks that are in all of them (list.go), and
// reads only those 256 rows by primary key, where the exact filter decides
// (query.go). Blocks also carry the range of their times, and so bound Since
// and Until.
//
// Paths and peers (addresses, names, workloads) would be terms without end, and
// hostile ones. They are hashed into a fixed number of buckets, whose blocks
// are kept by segment (bucket.go); so are words bounded (index.go), and what
// finds no room makes its block a candidate for every search. Terms without
// postings go with the retention (prune.go).
//
// A query whose terms meet in many blocks but never in one event could still
// read the whole table. Therefore every query has a budget of reads; where it
// ends, the page says Partial and how far it came.
//
// # What is added up
//
// While events are appended, sums are kept in the same transaction: how often
// what happened each minute (rate.go), and who talked with whom each hour
// (flow.go), bounded whatever is scanned or made up. They live as long as
// events.
//
// What is wrong with images is not added up in advance but when it is asked for,
// of what findings share (facet.go).
//
// # What "stored" means
//
// The log is written ahead (WAL) with synchronous=FULL: AppendEvents returns
// when the commit has been synced, so that what was acknowledged survives a
// power loss as well as a kill. Batches that arrive while a commit is on its
// way share the next one, so the sync is paid once for all of them.
//
// One connection writes, one transaction at a time; any number of readers
// work on snapshots beside it. A lock file keeps a second process out.
package db
