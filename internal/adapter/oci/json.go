package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// members reads the members of a JSON object that are wanted, and returns how
// many there were. A member that is there twice, or in another case, is
// refused: parsers differ in which one they take, and what is scanned must be
// what runs.
func members(doc []byte, want map[string]*json.RawMessage) (found int, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	if err := opens(d, '{'); err != nil {
		return 0, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return 0, syntax(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return 0, syntax(err)
		}
		name, _ := key.(string)
		at, known := want[name]
		if !known {
			if twin := inOtherCase(name, want); twin != "" {
				return 0, fmt.Errorf("a member is called %q where %q is meant", name, twin)
			}
			continue
		}
		if *at != nil {
			return 0, fmt.Errorf("the member %q is there twice", name)
		}
		*at = value
		found++
	}
	if _, err := d.Token(); err != nil {
		return 0, syntax(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, errors.New("something follows the JSON object")
	}
	return found, nil
}

// inOtherCase returns the wanted name that differs from name only in case.
func inOtherCase(name string, want map[string]*json.RawMessage) string {
	for w := range want {
		if strings.EqualFold(w, name) {
			return w
		}
	}
	return ""
}

// list reads a JSON array of at most limit elements; null and nothing at all
// are an empty one.
func list[T any](raw json.RawMessage, limit int, what string) ([]T, error) {
	if isNull(raw) {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := opens(d, '['); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var all []T
	for d.More() {
		if len(all) == limit {
			return nil, fmt.Errorf("more than %d %s", limit, what)
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%s: %w", what, syntax(err))
		}
		all = append(all, v)
	}
	return all, nil
}

// table reads a JSON object of at most limit members; null and nothing at all
// are an empty one.
func table[T any](raw json.RawMessage, limit int, what string) (map[string]T, error) {
	if isNull(raw) {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := opens(d, '{'); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	all := map[string]T{}
	for d.More() {
		if len(all) == limit {
			return nil, fmt.Errorf("more than %d %s", limit, what)
		}
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, syntax(err))
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%s: %w", what, syntax(err))
		}
		all[cut(key.(string), maxText)] = v
	}
	return all, nil
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

// opens reads the delimiter that an object or array begins with.
func opens(d *json.Decoder, with json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return syntax(err)
	}
	if t != with {
		return fmt.Errorf("not JSON that begins with %s", with)
	}
	return nil
}

// syntax says of an end that it came too early.
func syntax(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
