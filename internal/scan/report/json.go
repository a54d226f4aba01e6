package report

import (
	"encoding/json"
	"io"
)

// encode writes v as JSON for people and programs: indented, with texts as they
// are.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeJSON writes everything that is known, in the product's own form: fields
// are only ever added to it.
func writeJSON(w io.Writer, reports []Report, o Options) error {
	return encode(w, struct {
		Tool    string   `json:"tool"`
		Version string   `json:"version"`
		Reports []Report `json:"reports"`
	}{o.Tool, o.Version, reports})
}

// one writes the one document, or several as an array.
func one[T any](w io.Writer, documents []T) error {
	if len(documents) == 1 {
		return encode(w, documents[0])
	}
	return encode(w, documents)
}
