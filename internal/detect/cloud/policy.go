package cloud

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/grant"
)

// Everybody is who a policy lets in that names nobody.
const Everybody = "everybody"

// maxNames bounds who and what of one call is told.
const maxNames = 50

// OpenTo returns whom the policies and permissions in a call let in, beside the account
// itself: Everybody, and ids of other accounts. Policies that a condition ties to an
// account, an organisation, a network or a resource let nobody in.
func OpenTo(request json.RawMessage, account string) []string {
	var out []string
	add := func(who string) {
		if who != "" && who != account && len(out) < maxNames && !slices.Contains(out, who) {
			out = append(out, who)
		}
	}
	walk(request, func(path string, v any) {
		if d := policyOf(v); d != nil {
			for i := range d {
				if s := &d[i]; s.Allow && !s.Tied() {
					for _, p := range s.Principals {
						add(principal(p))
					}
					if s.NotPrincipal {
						add(Everybody)
					}
				}
			}
			return
		}
		if text, ok := v.(string); ok && !strings.Contains(strings.ToLower(path), "statement") { // that is a policy's, which was read above
			add(permitted(path, text))
		}
	})
	return out
}

// permitted is whom a single value lets in: a permission of a snapshot, an image, a
// function, a list of access.
func permitted(path, text string) string {
	p := strings.ToLower(path)
	of := func(ends ...string) bool {
		return slices.ContainsFunc(ends, func(e string) bool { return p == e || strings.HasSuffix(p, "."+e) })
	}
	switch {
	case of("createvolumepermission.add.items.group", "launchpermission.add.items.group") && text == "all",
		of("valuestoadd") && text == "all",
		of("x-amz-acl", "acl", "cannedacl") && strings.HasPrefix(text, "public-"),
		of("uri") && strings.Contains(text, "acs.amazonaws.com/groups/global/"),
		of("principal") && text == "*":
		return Everybody
	case of("createvolumepermission.add.items.userid", "launchpermission.add.items.userid", "valuestoadd", "principal"):
		return accountOf(text)
	}
	return ""
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// accountOf returns the account of an ARN, or an account's id; empty for none.
func accountOf(text string) string {
	if accountID.MatchString(text) {
		return text
	}
	if parts := strings.SplitN(text, ":", 6); len(parts) == 6 && parts[0] == "arn" && accountID.MatchString(parts[4]) {
		return parts[4]
	}
	return ""
}

// principal is whom a principal of a statement is: Everybody, or an account. Services
// and those that are signed in elsewhere are neither.
func principal(p string) string {
	if p = strings.TrimPrefix(p, "aws:"); p == "*" {
		return Everybody
	}
	return accountOf(p)
}

// Grants returns the actions that policies in a call permit on all resources, in small
// letters; * for those that permit all but some.
func Grants(request json.RawMessage) []string {
	var out []string
	add := func(a string) {
		if a = strings.ToLower(a); len(out) < maxNames && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	walk(request, func(_ string, v any) {
		d := policyOf(v)
		for i := range d {
			if s := &d[i]; s.Allow && s.EveryResource() {
				for _, a := range s.Actions {
					add(a)
				}
				if s.NotActions != nil {
					add("*")
				}
			}
		}
	})
	return out
}

// policyOf reads a value that is a policy, or the text of one; nil for what is none.
func policyOf(v any) []grant.Statement {
	var document []byte
	switch v := v.(type) {
	case string:
		if strings.Contains(v, `"Statement"`) || strings.Contains(v, `"statement"`) {
			document = []byte(v)
		}
	case map[string]any:
		if field(v, "Statement") != nil {
			document, _ = json.Marshal(v) // what was read from JSON can be written as it
		}
	}
	if document == nil {
		return nil
	}
	all, err := grant.Parse(document)
	if err != nil {
		return nil
	}
	return all
}

// field returns a value of a map whose key differs in case alone: EC2 and S3 write
// theirs in other letters.
func field(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v[:min(len(v), 10*maxNames)] {
			if s, ok := x.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
