package report

import (
	"net/url"
	"path"
	"strings"
)

// nameOfReference is the last part of an image reference, without tag and
// digest.
func nameOfReference(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	name := path.Base(ref)
	name, _, _ = strings.Cut(name, ":")
	if name == "." || name == "/" || name == "" {
		return "image"
	}
	return strings.ToLower(name)
}

func escapeURL(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// links returns the references that are addresses of pages and nothing else.
func links(references []string) []string {
	var out []string
	for _, ref := range references {
		u, err := url.Parse(ref)
		if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && !strings.ContainsAny(ref, " \"<>`\\^{|}") {
			out = append(out, ref)
		}
	}
	return out
}
