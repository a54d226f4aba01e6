package pull

import (
	"io"

	"github.com/castellan-security/castellan/internal/pull"
)

// JSON reads one JSON document as it passes, by calling back for what it finds.
// Comments and commas before a closing bracket are taken too, as some tools write
// them, and a byte order mark.
//
// A value is read by one of Object, Array, Text, Begin, Bool and Skip; one of another
// kind than asked for is skipped.
type JSON struct {
	r      *pull.Reader
	unread bool // the value of the member or element at hand
}

// NewJSON returns a reader of the document r, said to have size bytes (0
// unknown), of which at most limit are read.
func NewJSON(r io.Reader, size, limit int64) *JSON {
	return &JSON{r: pull.NewStream(r, size, limit)}
}

// Object calls member for each member of an object, with a key that is valid
// until the next value is read. A value that member doesn't read is skipped. Its
// error ends the reading and is returned.
func (j *JSON) Object(member func(key []byte) error) error {
	if j.r.Kind() != pull.Struct {
		return j.Skip()
	}
	for j.r.Object(); j.r.Next(); {
		j.unread = true
		if err := member(j.r.Key()); err != nil {
			return err
		}
		if j.unread {
			j.r.Skip()
		}
	}
	return j.read()
}

// Array calls element for each element of an array, as Object does for members.
func (j *JSON) Array(element func(i int) error) error {
	if j.r.Kind() != pull.List {
		return j.Skip()
	}
	j.r.Array()
	for i := 0; j.r.Next(); i++ {
		j.unread = true
		if err := element(i); err != nil {
			return err
		}
		if j.unread {
			j.r.Skip()
		}
	}
	return j.read()
}

// read notes that the value at hand was read, and returns why it could not be.
func (j *JSON) read() error {
	j.unread = false
	return j.r.Err()
}

// Text returns a string, or "" for another kind of value. One of more than
// MaxText bytes is an error.
func (j *JSON) Text() (string, error) {
	if j.r.Kind() != pull.String {
		return "", j.Skip()
	}
	s := string(j.r.Bytes())
	return s, j.read()
}

// Begin returns the first bytes of a string, most of them, and passes over the
// rest; "" for another kind of value.
func (j *JSON) Begin(most int) (string, error) {
	s := j.r.Begin(most)
	return s, j.read()
}

// Bool says whether the value is the literal true.
func (j *JSON) Bool() (bool, error) {
	is := j.r.True()
	return is, j.read()
}

// Kind returns what begins the value at hand: {, [, ", n for null, t for a truth
// value and 0 for a number; and 0x00 for what is no value, which fails once it is
// read.
func (j *JSON) Kind() (byte, error) {
	k := j.r.Kind()
	return byte(k), j.r.Err()
}

// Skip passes over a value.
func (j *JSON) Skip() error {
	j.r.Skip()
	return j.read()
}
