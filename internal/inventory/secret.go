package inventory

import (
	"cmp"
	"time"
)

// Secret is a place at which something stands that nobody should read: what kind
// of thing, where, how long, and a salted print by which it is known again. The
// value itself is in no field, and nothing here leads back to it without the
// installation's salt.
type Secret struct {
	// Place is the file and the layer that brought it. For what stands in the
	// image's configuration or a document the path is empty, or the document's.
	Place
	// Rule is the id of the rule that found it: "aws-access-token".
	Rule string `json:"rule"`
	// Source says where in the subject it stands; empty: in a file's content.
	Source SecretSource `json:"source,omitempty"`
	// Name is what the value is called there: a variable, label, key, field or
	// build argument. Empty where it has no name.
	Name string `json:"name,omitempty"`
	// Line and Column count from 1, the column in bytes; 0 where there is none.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	Length int `json:"length"` // bytes of the value
	// Doubt says why it may be none, or of no use to anybody: it stands in a
	// test's path, looks like an example, has expired. Empty: nothing speaks
	// against it.
	Doubt string `json:"doubt,omitempty"`
	// Hidden is set where an upper layer deletes or replaces the file: whoever
	// has the image has the secret all the same.
	Hidden *Hidden `json:"hidden,omitempty"`
	// Account is the AWS account that a key belongs to, told by the key's id.
	Account string `json:"account,omitempty"`
	// Key says of a private key how much of one it is.
	Key KeyState `json:"key,omitempty"`
	// Expires is when a token ends, as it says itself.
	Expires time.Time `json:"expires,omitzero"`
	Commit  *Commit   `json:"commit,omitempty"`
	// Check is the check that is about secrets at such a place, as of a container's
	// environment: CAST-TASK-016. What is told as a secret is not told as a fault, too.
	Check string `json:"check,omitempty"`
	// Allowed is an inline comment's reason to let it stand.
	Allowed *Allowed `json:"allowed,omitempty"`
	// Same is the salted print of the value alone: two places with one Same hold
	// the same secret. Print is of the value, the rule and the place's name.
	Same  string `json:"same"`
	Print string `json:"print"`
}

// SecretSource is a part of a subject that can hold a secret.
type SecretSource string

// The parts beside files.
const (
	InEnv      SecretSource = "env"      // a variable of the image's configuration
	InLabel    SecretSource = "label"    // a label of the image
	InHistory  SecretSource = "history"  // a build step
	InArgument SecretSource = "argument" // a build argument that the history keeps
	InCommand  SecretSource = "command"  // the image's entry point, command or health check
	InField    SecretSource = "field"    // a field of a structured document
	InMessage  SecretSource = "message"  // what is said of a commit or a tag
)

// KeyState says how much of a private key stands there.
type KeyState string

// The states of a private key.
const (
	KeyWhole      KeyState = "whole"      // complete and not encrypted
	KeyEncrypted  KeyState = "encrypted"  // complete, behind a passphrase
	KeyIncomplete KeyState = "incomplete" // no key can be read from it
)

// Hidden says what took a file out of sight, and that it is still there.
type Hidden struct {
	// Layer counts from 1, 0 if it isn't known which one did it.
	Layer int `json:"layer,omitempty"`
	// Deleted: by a whiteout; else something else was put in its place.
	Deleted bool `json:"deleted,omitempty"`
}

// Commit is the commit of a repository that brought something.
type Commit struct {
	Hash   string    `json:"hash"`
	Author string    `json:"author,omitempty"`
	When   time.Time `json:"when,omitzero"`
	// Gone: the newest commit has it no more.
	Gone bool `json:"gone,omitempty"`
}

// Allowed is a comment beside a secret that lets it stand.
type Allowed struct {
	Reason  string    `json:"reason,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// CompareSecrets orders secrets by where they stand, then by what they are.
func CompareSecrets(a, b Secret) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Rule, b.Rule),
		cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Print, b.Print))
}

// Blob is the content of a file at some time in a repository's history.
type Blob struct {
	ID   string // of the content
	Path string // without a leading slash; empty for a message
	// Message says that it is what somebody said of a commit or a tag.
	Message bool
	Size    int64
	// Commit is the first that has it at that path.
	Commit Commit
	// Newest says that the newest commit of the branch in use has it still.
	Newest bool
}
