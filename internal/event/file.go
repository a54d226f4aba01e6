package event

// File is the payload of the file.… kinds.
type File struct {
	// Path is the file as the process's own root shows it, symbolic links
	// followed. For a rename and a link it is the old name; for a symbolic link
	// it is the text that the link holds.
	Path string `json:"path"`
	To   string `json:"to,omitempty"` // the new name, for rename and link
	// Claimed says that a path is what the process passed to the kernel, made
	// absolute: which file that was could not be asked.
	Claimed       bool   `json:"claimed,omitempty"`
	PathTruncated bool   `json:"path_truncated,omitempty"` // the end of the path is right, its beginning is cut
	Origin        Origin `json:"origin,omitempty"`         // where the file came from, in the words of exec.origin
	Layer         Layer  `json:"layer,omitzero"`           // the layer of the image that it came with, where that is known
	FileSystem    string `json:"file_system,omitempty"`    // the kernel's name of its type: overlay, tmpfs, proc, …
	Inode         uint64 `json:"inode,omitempty"`          // on Device
	Device        uint32 `json:"device,omitempty"`         // the kernel's dev_t
	Type          string `json:"type,omitempty"`           // of what is not a plain file: folder, link, fifo, socket, char, block
	// Mode has the permission bits after the event: 07777, so 04755 is set-uid.
	Mode  uint32   `json:"mode,omitempty"`
	UID   *uint32  `json:"uid,omitempty"`   // the new owner, for chown; nil when it stayed
	GID   *uint32  `json:"gid,omitempty"`   // the new group, for chown; nil when it stayed
	Flags []string `json:"flags,omitempty"` // of open: write, append, truncate, create, exclusive, path; symbolic for such a link
	// Sensitive names the rule that makes reading it worth telling: keys,
	// shadow, token, cloud, environ, memory, secrets, or the path of the
	// configuration.
	Sensitive string `json:"sensitive,omitempty"`
	Error     string `json:"error,omitempty"` // why it failed: EACCES, EPERM, …
}
