package grant

import (
	"slices"
	"strings"
)

// Covers says whether an action is among a statement's, whatever its effect. The
// action may have wildcards of its own: "iam:*" is covered only by what covers
// all of it. Of an allowance what is taken back everywhere is not covered.
func (s *Statement) Covers(action string) bool { return s.covers(action) && s.keeps(action) }

// covers is Covers of the statement alone.
func (s *Statement) covers(action string) bool {
	if s.Actions != nil {
		return slices.ContainsFunc(s.Actions, func(p string) bool { return matches(p, action) })
	}
	return s.NotActions != nil && !slices.ContainsFunc(s.NotActions, func(p string) bool { return matches(p, action) || matches(action, p) })
}

// EveryResource says that the statement is about any resource.
func (s *Statement) EveryResource() bool {
	if !s.everyResource() {
		return false
	}
	if s.limits == nil || !s.Allow {
		return true
	}
	for i := range s.limits.denials {
		if d := &s.limits.denials[i]; d.NotResources != nil && !slices.ContainsFunc(s.Actions, func(a string) bool { return !d.covers(a) }) && s.Actions != nil {
			return false // all is denied but on these
		}
	}
	return !s.limits.bounded || slices.ContainsFunc(s.limits.bound, func(b Statement) bool { return b.Allow && b.everyResource() && shareActions(s, &b) })
}

// everyResource is EveryResource of the statement alone.
func (s *Statement) everyResource() bool {
	if s.NotResources != nil {
		return true // all but some
	}
	return slices.ContainsFunc(s.Resources, func(r string) bool {
		return slices.ContainsFunc(anything, func(two [2]string) bool { return matches(r, two[0]) && matches(r, two[1]) })
	})
}

// anything are pairs of resources, one for each part of AWS, that have nothing in
// common but that part: a pattern that matches both is about all of it.
var anything = [][2]string{
	{"arn:aws:q7:eu-west-9:000000000001:q7/q7", "arn:aws:z8::999999999998:z8"},
	{"arn:aws-cn:q7:eu-west-9:000000000001:q7/q7", "arn:aws-cn:z8::999999999998:z8"},
	{"arn:aws-us-gov:q7:eu-west-9:000000000001:q7/q7", "arn:aws-us-gov:z8::999999999998:z8"},
}

// EveryAction says that the statement is about all actions of all services, or all
// but some.
func (s *Statement) EveryAction() bool {
	if !s.everyAction() {
		return false
	}
	if s.limits == nil || !s.Allow {
		return true
	}
	for i := range s.limits.denials {
		if d := &s.limits.denials[i]; d.everyAction() && d.overAll() {
			return false
		}
	}
	return !s.limits.bounded || slices.ContainsFunc(s.limits.bound, func(b Statement) bool { return b.Allow && b.everyAction() })
}

func (s *Statement) everyAction() bool {
	return s.NotActions != nil || slices.ContainsFunc(s.Actions, func(a string) bool {
		return a != "" && strings.Trim(a, "*?:") == "" && strings.Contains(a, "*")
	})
}

// WholeServices are the services of which the statement has all actions: "s3" for
// s3:*.
func (s *Statement) WholeServices() []string {
	var out []string
	for _, a := range s.Actions {
		service, what, ok := strings.Cut(strings.ToLower(a), ":")
		if ok && strings.Contains(what, "*") && strings.Trim(what, "*?") == "" && s.keeps(service+":*") {
			out = append(out, service)
		}
	}
	return out
}

// closing are keys of conditions that keep the whole world out. A condition on
// anything else, such as the time or the agent that somebody claims to be, doesn't.
var closing = []string{
	"aws:principalorgid", "aws:principalorgpaths", "aws:principalaccount", "aws:principalarn", "aws:sourceaccount", "aws:sourcearn",
	"aws:sourceorgid", "aws:sourcevpc", "aws:sourcevpce", "aws:userid",
}

// tying are keys of conditions that let in only who is known, beside those that are
// closing: a secret between two accounts, addresses, or a service that asks for one of
// the account's.
var tying = []string{"aws:sourceowner", "aws:sourceip", "sts:externalid", "kms:calleraccount", "kms:viaservice"}

// Tied says that a condition of the statement ties it to who is known: to an account,
// an organisation, a network, addresses, a resource, or who knows a secret.
func (s *Statement) Tied() bool { return s.narrowedBy(closing) || s.narrowedBy(tying) }

func (s *Statement) narrowedBy(keys []string) bool {
	return slices.ContainsFunc(s.narrow, func(k string) bool { return slices.Contains(keys, k) })
}

// Public says that the statement lets anybody in the world do it.
func (s *Statement) Public() bool {
	if !s.Allow || s.narrowedBy(closing) {
		return false
	}
	return s.NotPrincipal || slices.ContainsFunc(s.Principals, func(p string) bool { return p == "*" || p == "aws:*" || p == "aws:arn:aws:iam::*:root" })
}

// matches says whether a pattern of IAM, with * and ?, matches a text, in any
// case.
func matches(pattern, s string) bool { return fits(strings.ToLower(pattern), strings.ToLower(s)) }

// fits is matches, where case counts. It takes time linear in the product of both,
// which are bounded.
func fits(p, t string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' && t[j] != '*' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "*") == ""
}
