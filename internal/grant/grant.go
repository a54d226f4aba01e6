// Package grant reads IAM policy documents and says what they allow: of roles that
// tasks get, of repositories, and of what calls of AWS write. It follows how IAM evaluates: what is denied is
// not allowed whatever else is written, and a role with a permissions boundary may
// do what both allow.
//
// It simulates no request: an allowance with conditions may hold, and a denial with
// conditions may not. What it says is allowed may be less than IAM would allow,
// where there are documents that nobody gave, and is never less than IAM allows by
// those that were given.
package grant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
)

// Limits of one document. IAM takes 10 KB of a role's own policies, and 6 KB of
// an attached one.
const (
	MaxBytes      = 256 << 10
	MaxStatements = 1000
	maxTexts      = 10_000
	maxText       = 4096 // bytes of an action: each may be compared with each
	maxLongText   = MaxBytes
)

// Statement is one statement of a policy.
type Statement struct {
	SID          string
	Allow        bool // its effect; otherwise it denies
	Actions      []string
	NotActions   []string // all but these
	Resources    []string
	NotResources []string
	Principals   []string // "*", "AWS:arn:…", "Service:ecs-tasks.amazonaws.com"
	NotPrincipal bool     // all principals but some
	Conditions   []string // their keys, in lower case: "aws:sourcevpc"
	narrow       []string // those of them that must be there and be something certain
	limits       *limits  // what takes of it; nil: nothing is known to
}

// Parse reads a document: a policy as JSON, or a text that is one, as some
// interfaces give it, percent-encoded or not.
func Parse(b []byte) ([]Statement, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("a policy document of %d bytes: at most %d are read", len(b), MaxBytes)
	}
	b = bytes.TrimSpace(b)
	if bytes.HasPrefix(b, []byte{'"'}) {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("no policy document: %w", err)
		}
		if strings.HasPrefix(s, "%7B") || strings.HasPrefix(s, "%7b") {
			plain, err := url.PathUnescape(s)
			if err != nil {
				return nil, fmt.Errorf("no policy document: %w", err)
			}
			s = plain
		}
		b = []byte(s)
	}
	top, err := object(b)
	if err != nil {
		return nil, fmt.Errorf("no policy document: %w", err)
	}
	raw, ok := top["statement"]
	if !ok {
		return nil, errors.New("no policy document: it has no Statement")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		list = []json.RawMessage{raw}
	}
	if len(list) > MaxStatements {
		return nil, fmt.Errorf("a policy document with %d statements: at most %d are read", len(list), MaxStatements)
	}
	out := make([]Statement, 0, len(list))
	for i, raw := range list {
		s, err := statement(raw)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// object reads an object with its names in lower case. A name that is there twice
// is an error: readers differ on which one counts.
func object(b []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("a name is no text")
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		key := strings.ToLower(name)
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		out[key] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return out, nil
}

func statement(raw json.RawMessage) (s Statement, err error) {
	fields, err := object(raw)
	if err != nil {
		return s, err
	}
	var effect string
	if err := json.Unmarshal(fields["effect"], &effect); err != nil {
		return s, errors.New("its Effect is no text")
	}
	switch {
	case strings.EqualFold(effect, "Allow"):
		s.Allow = true
	case !strings.EqualFold(effect, "Deny"):
		return s, fmt.Errorf("its Effect is %.20q: neither Allow nor Deny", effect)
	}
	for name, to := range map[string]*[]string{
		"action": &s.Actions, "notaction": &s.NotActions, "resource": &s.Resources, "notresource": &s.NotResources,
	} {
		most := maxLongText
		if strings.HasSuffix(name, "action") {
			most = maxText
		}
		if *to, err = list(fields[name], most); err != nil {
			return s, fmt.Errorf("its %s: %w", name, err)
		}
	}
	if v, ok := fields["sid"]; ok {
		_ = json.Unmarshal(v, &s.SID) // for people alone
	}
	if s.Principals, err = principals(fields["principal"]); err != nil {
		return s, err
	}
	_, s.NotPrincipal = fields["notprincipal"]
	if s.Conditions, s.narrow, err = conditions(fields["condition"]); err != nil {
		return s, err
	}
	if s.Actions == nil && s.NotActions == nil {
		return s, errors.New("it has neither Action nor NotAction")
	}
	return s, nil
}

// list reads a text or a list of them, each of so many bytes at most.
func list(raw json.RawMessage, most int) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, checkTexts([]string{one}, most)
	}
	var out []string
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, errors.New("neither a text nor a list of them")
	}
	if out == nil {
		out = []string{}
	}
	return out, checkTexts(out, most)
}

func checkTexts(all []string, most int) error {
	if len(all) > maxTexts {
		return fmt.Errorf("%d texts: at most %d are read", len(all), maxTexts)
	}
	for _, s := range all {
		if len(s) > most {
			return fmt.Errorf("a text of %d bytes: at most %d are read", len(s), most)
		}
	}
	return nil
}

func principals(raw json.RawMessage) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	if all, err := list(raw, maxLongText); err == nil {
		return all, nil // "*"
	}
	kinds, err := object(raw)
	if err != nil {
		return nil, fmt.Errorf("its Principal: %w", err)
	}
	var out []string
	for _, kind := range []string{"aws", "service", "federated", "canonicaluser"} {
		all, err := list(kinds[kind], maxLongText)
		if err != nil {
			return nil, fmt.Errorf("its Principal: %w", err)
		}
		for _, p := range all {
			out = append(out, kind+":"+p)
		}
	}
	return out, nil
}

// conditions returns the keys of a statement's conditions, and those by which
// something must be one of certain values: not what it must not be, may lack, or
// may be anything.
func conditions(raw json.RawMessage) (keys, narrow []string, err error) {
	if raw == nil {
		return nil, nil, nil
	}
	operators, err := object(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("its Condition: %w", err)
	}
	for operator, o := range operators {
		values, err := object(o)
		if err != nil {
			return nil, nil, fmt.Errorf("its Condition: %w", err)
		}
		open := strings.Contains(operator, "not") || strings.HasSuffix(operator, "ifexists") || strings.HasPrefix(operator, "forallvalues:") || operator == "null"
		for k, v := range values {
			keys = append(keys, k)
			if !open && !anyValue(v) {
				narrow = append(narrow, k)
			}
		}
	}
	slices.Sort(keys)
	slices.Sort(narrow)
	return slices.Compact(keys), slices.Compact(narrow), nil
}

// EveryAddress says that a range of addresses is all of them.
func EveryAddress(cidr string) bool { return cidr == "0.0.0.0/0" || cidr == "::/0" }

// anyValue says that one of a condition's values is what any value fits.
func anyValue(raw json.RawMessage) bool {
	values, err := list(raw, maxLongText)
	return err == nil && slices.ContainsFunc(values, func(v string) bool {
		return strings.Contains(v, "*") && strings.Trim(v, "*?:/") == "" || EveryAddress(v)
	})
}
