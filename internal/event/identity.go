package event

// FileIdentity tells one content of a file from another, as far as a host can know
// without reading it: an inode that is used again, or whose content changes, has
// another time of change, which no program can set.
type FileIdentity struct {
	Device, Inode uint64
	Size          int64
	Changed       int64 // Unix nanoseconds, ctime
	Modified      int64 // Unix nanoseconds, mtime
}
