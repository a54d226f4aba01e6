package console

import (
	"strings"

	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// starter is what the editor begins with where there is no policy yet: it can't be
// saved before somebody has put a key into it.
const starter = `version: 1
roots:
  keys:
    build:
      pem: |
        -----BEGIN PUBLIC KEY-----
        (the public key that signs images)
        -----END PUBLIC KEY-----
signers:
  build: {key: build}
images:
  - name: ours
    match: registry.example/team/**
    require:
      - signers: [build]
`

// maxHidden is how many lines with signs that can't be seen are told.
const maxHidden = 20

// hiddenLine is a line with signs that can't be seen, or that turn the direction of
// writing: in a policy they can only deceive who reads it.
type hiddenLine struct {
	Line  int
	Signs string // as they are shown
}

// hiddenLines finds those lines.
func hiddenLines(text string) (out []hiddenLine) {
	for i, line := range strings.Split(text, "\n") {
		var signs []string
		for _, p := range untrusted.Pieces(line) {
			if p.StandIn && !strings.HasPrefix(p.Text, "…") {
				signs = append(signs, p.Text)
			}
		}
		if len(signs) > 0 && len(out) < maxHidden {
			out = append(out, hiddenLine{i + 1, strings.Join(signs[:min(len(signs), 5)], " ")})
		}
	}
	return out
}

// problemCount says how much is wrong.
func problemCount(p policyCheck) string {
	if len(p.Problems) == 0 {
		return "It can be used"
	}
	said := plural(len(p.Problems), "problem", "problems")
	switch line := p.Problems[0].Line; {
	case line == 0:
		return said
	case len(p.Problems) == 1:
		return said + ", in line " + count(line)
	default:
		return said + ", the first in line " + count(line)
	}
}

// place says where a problem is.
func place(x textProblem) string {
	switch {
	case x.Line == 0:
		return "As a whole"
	case x.Column == 0:
		return "Line " + count(x.Line)
	}
	return "Line " + count(x.Line) + ", column " + count(x.Column)
}

// changeWords say how much differs.
func changeWords(all []diffLine) string {
	out, in := changed(all)
	switch {
	case out+in == 0:
		return "No line differs."
	case out == 0:
		return plural(in, "line", "lines") + " more"
	case in == 0:
		return plural(out, "line", "lines") + " less"
	}
	return plural(in, "line", "lines") + " put in, " + count(out) + " taken out"
}

// triedWords say what becomes of an image's state.
func triedWords(s store.TrustState) (string, tone) {
	if s == verify.TrustAnew {
		return "to be verified anew", calm
	}
	return trustWords(s)
}

func triedWord(s store.TrustState) string {
	word, _ := triedWords(s)
	return word
}

// triedStates are the states that a trial counts, in their order.
func triedStates(t *verify.Trial) (out []store.TrustState) {
	for _, s := range append(store.TrustStates(), verify.TrustAnew) {
		if t.Before[s]+t.After[s] > 0 {
			out = append(out, s)
		}
	}
	return out
}

// trialWords say in a sentence what a trial has found.
func trialWords(t *verify.Trial) string {
	denied, anew, allowed := 0, 0, 0
	for _, x := range t.Changes {
		switch x.After {
		case store.TrustDenied:
			denied++
		case verify.TrustAnew:
			anew++
		case store.TrustAllowed:
			allowed++
		}
	}
	var said []string
	for _, x := range []struct {
		n    int
		says string
	}{{denied, "would be denied"}, {allowed, "would be allowed"}, {anew, "would have to be verified anew before anybody knows"}} {
		if x.n > 0 {
			said = append(said, plural(x.n, "image", "images")+" "+x.says)
		}
	}
	if len(said) == 0 {
		return "Of what runs, nothing would change for all that is known."
	}
	words := strings.Join(said, ", ")
	if t.More > 0 {
		words += ", and " + count(t.More) + " more would change"
	}
	return words + "."
}

// trialTone is how that looks.
func trialTone(t *verify.Trial) tone {
	for _, x := range t.Changes {
		if x.After == store.TrustDenied {
			return danger
		}
	}
	return calm
}

// markWord says what became of a line, for those who hear it.
func markWord(m diffMark) string {
	return map[diffMark]string{taken: "taken out: ", put: "put in: "}[m]
}

func markSign(m diffMark) string { return map[diffMark]string{taken: "−", put: "+"}[m] }

func markClass(m diffMark) string {
	return map[diffMark]string{same: "same", taken: "taken", put: "put", skipped: "skipped"}[m]
}

// lineNumber is a number that a difference shows; "" for a line that is in one text
// alone.
func lineNumber(n int) string {
	if n == 0 {
		return ""
	}
	return count(n)
}
