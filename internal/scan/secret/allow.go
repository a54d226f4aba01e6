package secret

import (
	"regexp"
	"strings"
	"sync"
)

// allowText is what gitleaks' configuration says is no secret although a rule
// finds it.
type allowText struct {
	Condition, RegexTarget string
	Paths, Regexes         []string
	Commits, StopWords     []string
}

// allowList is that, ready to be asked.
type allowList struct {
	and               bool // all that it names must meet, else one is enough
	paths, regexes    func() *regexp.Regexp
	hasPaths, hasText bool
	target            string // what regexes are held against: "" the value, "match", "line"
	commits           map[string]bool
	hasWords          bool
	stopWords         func() *filter
}

// newAllowList makes what it is asked by when it is first asked.
func newAllowList(t *allowText) allowList {
	a := allowList{and: strings.EqualFold(t.Condition, "and") || t.Condition == "&&", target: t.RegexTarget,
		hasPaths: len(t.Paths) > 0, hasText: len(t.Regexes) > 0, hasWords: len(t.StopWords) > 0,
		paths: joined(t.Paths), regexes: joined(t.Regexes), stopWords: sync.OnceValue(func() *filter {
			words := make([]string, len(t.StopWords))
			for i, w := range t.StopWords {
				words[i] = strings.ToLower(w)
			}
			return newFilter(words)
		})}
	if len(t.Commits) > 0 {
		a.commits = map[string]bool{}
		for _, c := range t.Commits {
			a.commits[strings.ToLower(strings.TrimSpace(c))] = true
		}
	}
	return a
}

// joined compiles expressions as one, when it is first needed.
func joined(list []string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp {
		parts := make([]string, len(list))
		for i, s := range list {
			parts[i] = "(?:" + s + ")"
		}
		return regexp.MustCompile("(?:" + strings.Join(parts, "|") + ")")
	})
}

// allowsFile says whether a whole file, or all of a commit, is allowed.
func (a *allowList) allowsFile(f *File) bool {
	if f.Path == "" && f.Commit == "" {
		return false
	}
	path, commit := a.allowsPath(f), a.commits[f.Commit]
	if !a.and {
		return path || commit
	}
	if a.hasText || a.hasWords {
		return false // decided when something was found
	}
	return (!a.hasPaths || path) && (a.commits == nil || commit)
}

func (a *allowList) allowsPath(f *File) bool {
	return a.hasPaths && f.Path != "" && a.paths().MatchString(f.Path)
}

// allows says whether a finding is allowed.
func (a *allowList) allows(f *File, value, match, line string) bool {
	target := value
	switch a.target {
	case "match":
		target = match
	case "line":
		target = line
	}
	text := a.hasText && target != "" && a.regexes().MatchString(target)
	if !a.and {
		return text || a.stopped(value)
	}
	return (!a.hasPaths || a.allowsPath(f)) && (a.commits == nil || a.commits[f.Commit]) &&
		(!a.hasText || text) && (!a.hasWords || a.stopped(value))
}

func (a *allowList) stopped(value string) bool {
	if !a.hasWords {
		return false
	}
	any := false
	a.stopWords().each([]byte(value), func(int, int) { any = true })
	return any
}
