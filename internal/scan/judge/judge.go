// Package judge says whether a value is a secret, by the name that it has, by its
// form and by where it stands. It is the one place in which names and values are
// judged: the scanner of secrets and the checks of documents and images ask it,
// so that both say the same of the same variable.
//
//	v, ok := judge.Pair("DB_PASSWORD", "hunter2", judge.Own)
//
// It is not for finding names and values (see secret, iac), and not for what a
// secret is worth to whom (secret.Finding).
package judge

// Kind is what a name says of its value, as a word: "password". Empty: nothing.
type Kind string

// The kinds.
const (
	Password   Kind = "password"
	Passphrase Kind = "passphrase"
	Token      Kind = "token"
	Key        Kind = "key"
	Secret     Kind = "secret"
	Credential Kind = "credential"
)

// chosen says that people choose such a value, and may choose a word.
func (k Kind) chosen() bool { return k == Password || k == Passphrase }

// Place says how sure it is that what stands somewhere is a value.
type Place uint8

// The places, the surest last.
const (
	// Bare is a text as it stands: it may be an expression, or a piece of one.
	Bare Place = iota
	// Quoted is a text in quotes, or in a field of some document: a text, but maybe
	// not for a program.
	Quoted
	// Own is a field that holds nothing else: a variable of a container, an argument
	// of a build or a command. What stands there is used as it stands, so that a
	// weak password is one, and names may be longer than what they promise.
	Own
)

// Doubts, in words that follow "but".
const (
	DoubtWord    = "it looks like a word, not like a secret"
	DoubtExample = "it looks like an example"
	DoubtHost    = "its host is an example, or the machine itself"
)

// Verdict is what a pair is.
type Verdict struct {
	Kind  Kind
	Doubt string // why it may be none; empty: nothing speaks against it
}

// Pair says whether a value under a name is a secret.
func Pair(name, value string, at Place) (v Verdict, ok bool) {
	if v.Kind = Name(name, at); v.Kind == "" {
		return v, false
	}
	v.Doubt, ok = Value(value, name, v.Kind, at)
	return v, ok
}
