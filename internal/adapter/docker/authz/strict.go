package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Bounds of a body. The engine hands over none of 1 MiB and more.
const (
	maxBody = 1 << 20
	// maxDepth is how deep it nests; the deepest setting of a container is at 6.
	maxDepth = 16
	// maxValues is how many values it has: the kernel takes no container with that
	// many variables.
	maxValues = 100_000
)

// read reads a body into v as the engine reads it into its own types, by the
// same rules of the same library: names without regard to case, the last of two
// values. It refuses what only has a meaning by those rules (a name twice, more
// after the end), and fields that v does not have: the engine may have them.
func read(body []byte, v any) error {
	const remedy = "send one plain JSON object, with each name once"
	if len(body) > maxBody {
		return refused(remedy, "the body is longer than %d bytes", maxBody)
	}
	if err := unambiguous(body); err != nil {
		return refused(remedy, "the body is not what castellan reads: %w", err)
	}
	body, err := withoutNulls(body)
	if err != nil {
		return refused(remedy, "the body is not what castellan reads: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refused("leave it out, or update castellan", "the body can't be read: %s", plainly(err))
	}
	return nil
}

// withoutNulls leaves out what is null: to the engine that is as if it were not
// there, and older clients write so what they don't set, also where nobody knows it.
func withoutNulls(body []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	strip("", v)
	return json.Marshal(v)
}

// strip leaves nulls out of v, the value of key. In a map, a name with null is
// still a name.
func strip(key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			if member == nil && !isMap(key) {
				delete(v, k)
			}
			strip(k, member)
		}
	case []any:
		for _, member := range v {
			strip("", member)
		}
	}
}

// plainly is an error of reading JSON without what names the program's types.
func plainly(err error) string {
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return fmt.Sprintf("%s is of the wrong type (%s)", short(mistyped.Field), mistyped.Value)
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "castellan does not know the field " + short(field)
	}
	return short(strings.TrimPrefix(err.Error(), "json: "))
}

// unambiguous walks a document and refuses what can be read in two ways.
func unambiguous(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	w := walker{decoder: d}
	first, err := d.Token()
	if err != nil {
		return errors.New("it is no JSON")
	}
	if first != json.Delim('{') {
		return errors.New("it is no object")
	}
	if err := w.object("", 1); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

// walker walks through a document.
type walker struct {
	decoder *json.Decoder
	values  int
}

// object walks through an object that has begun and is the value of key.
func (w *walker) object(key string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests deeper than %d", maxDepth)
	}
	named := isMap(key)
	seen := map[string]bool{}
	for w.decoder.More() {
		t, err := w.decoder.Token()
		if err != nil {
			return errors.New("it is no JSON")
		}
		name, ok := t.(string)
		if !ok {
			return errors.New("it is no JSON")
		}
		folded := name
		if !named {
			folded = fold(name)
		}
		if seen[folded] {
			return fmt.Errorf("%s is there twice", short(name))
		}
		seen[folded] = true
		if err := w.value(name, depth); err != nil {
			return err
		}
	}
	return w.end()
}

func (w *walker) value(key string, depth int) error {
	if w.values++; w.values > maxValues {
		return fmt.Errorf("it has more than %d values", maxValues)
	}
	t, err := w.decoder.Token()
	if err != nil {
		return errors.New("it is no JSON")
	}
	switch t {
	case json.Delim('{'):
		return w.object(key, depth+1)
	case json.Delim('['):
		if depth >= maxDepth {
			return fmt.Errorf("it nests deeper than %d", maxDepth)
		}
		for w.decoder.More() {
			if err := w.value("", depth+1); err != nil {
				return err
			}
		}
		return w.end()
	}
	return nil
}

func (w *walker) end() error {
	if _, err := w.decoder.Token(); err != nil {
		return errors.New("it is no JSON")
	}
	return nil
}

// isMap says that the names in the object of that key are anybody's choice, and
// may differ in case alone.
func isMap(key string) bool {
	switch strings.ToLower(fold(key)) {
	case "labels", "options", "driveropts", "config", "sysctls", "tmpfs", "storageopt", "annotations",
		"portbindings", "exposedports", "volumes", "endpointsconfig", "auxiliaryaddresses", "topology", "secrets":
		return true
	}
	return false
}

// fold makes equal what differs in case alone, by the rules by which
// encoding/json finds fields.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}
