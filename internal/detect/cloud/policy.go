package cloud

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
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
			for _, s := range d {
				if s.effect == "Allow" && !s.tied {
					for _, p := range s.principals {
						add(principal(p))
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

func principal(p string) string {
	if p == "*" {
		return Everybody
	}
	return accountOf(p)
}

// Grants returns the actions that policies in a call permit on all resources, in small
// letters; * for those that permit all but some.
func Grants(request json.RawMessage) []string {
	var out []string
	walk(request, func(_ string, v any) {
		for _, s := range policyOf(v) {
			if s.effect != "Allow" || !slices.Contains(s.resources, "*") {
				continue
			}
			for _, a := range s.actions {
				if a = strings.ToLower(a); len(out) < maxNames && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	})
	return out
}

// statement is one of a policy of IAM, as far as it is looked at.
type statement struct {
	effect     string
	actions    []string
	resources  []string
	principals []string
	tied       bool // by a condition, to who is known
}

// policyOf reads a value that is a policy, or the text of one; nil for what is none.
func policyOf(v any) []statement {
	if text, ok := v.(string); ok {
		if !strings.Contains(text, `"Statement"`) && !strings.Contains(text, `"statement"`) {
			return nil
		}
		if v, ok = read(json.RawMessage(text)); !ok {
			return nil
		}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	list, ok := field(m, "Statement").([]any)
	if !ok {
		one, ok := field(m, "Statement").(map[string]any)
		if !ok {
			return nil
		}
		list = []any{one}
	}
	var out []statement
	for _, x := range list[:min(len(list), maxNames)] {
		if s, ok := x.(map[string]any); ok {
			out = append(out, statementOf(s))
		}
	}
	return out
}

func statementOf(m map[string]any) statement {
	s := statement{actions: texts(field(m, "Action")), resources: texts(field(m, "Resource"))}
	s.effect, _ = field(m, "Effect").(string)
	if field(m, "NotAction") != nil {
		s.actions = append(s.actions, "*")
	}
	switch p := field(m, "Principal").(type) {
	case string:
		s.principals = []string{p}
	case map[string]any:
		s.principals = texts(field(p, "AWS"))
	}
	if field(m, "NotPrincipal") != nil {
		s.principals = append(s.principals, "*")
	}
	s.tied = tied(field(m, "Condition"))
	return s
}

// tied says that a condition lets in only who is known.
func tied(v any) bool {
	conditions, ok := v.(map[string]any)
	if !ok {
		return false
	}
	for test, keys := range conditions {
		m, ok := keys.(map[string]any)
		if !ok || strings.Contains(test, "Not") || strings.HasSuffix(test, "IfExists") {
			continue
		}
		for key, value := range m {
			switch strings.ToLower(key) {
			case "aws:sourceaccount", "aws:sourcearn", "aws:sourceowner", "aws:principalorgid", "aws:principalorgpaths", "aws:principalaccount",
				"aws:principalarn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceorgid", "sts:externalid", "kms:calleraccount", "kms:viaservice":
				if !slices.Contains(texts(value), "*") {
					return true
				}
			case "aws:sourceip":
				if all := texts(value); !slices.ContainsFunc(all, world) {
					return true
				}
			}
		}
	}
	return false
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

// world says that a range of addresses is all of them.
func world(cidr string) bool { return cidr == "0.0.0.0/0" || cidr == "::/0" }
