// Package dockerfile reads Dockerfiles: their instructions with their lines, and
// what the image that the last stage becomes would be like.
//
// It is not for building, and not for judging (see check).
package dockerfile

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
)

// Limits on a Dockerfile.
const (
	maxBytes = 1 << 20
	maxSteps = 5000
)

// Parse reads a Dockerfile. name is the file's.
func Parse(b []byte, name string) (blueprint.Build, error) {
	if len(b) > maxBytes {
		return blueprint.Build{}, fmt.Errorf("%d bytes, and at most %d are read", len(b), maxBytes)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return blueprint.Build{}, fmt.Errorf("it is no text")
	}
	steps, err := split(string(b), name)
	if err != nil {
		return blueprint.Build{}, err
	}
	f := &file{arguments: map[string]string{}, unknown: map[string]bool{}, byName: map[string]int{}}
	for _, s := range steps {
		f.step(s)
	}
	if len(f.stages) == 0 {
		return blueprint.Build{}, fmt.Errorf("it has no FROM")
	}
	return f.build(name), nil
}

// Known are the words that begin an instruction.
const known = " ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR "

// split makes instructions of lines.
func split(text, name string) ([]blueprint.Step, error) {
	escape := `\`
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for _, l := range lines { // directives stand before all else
		key, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(l), "#")), "=")
		if !ok || !strings.HasPrefix(strings.TrimSpace(l), "#") {
			break
		}
		if strings.EqualFold(strings.TrimSpace(key), "escape") && strings.TrimSpace(value) == "`" {
			escape = "`"
		}
	}
	var steps []blueprint.Step
	for i := 0; i < len(lines); i++ {
		first := i
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' {
			continue
		}
		var b strings.Builder
		for {
			rest, goesOn := strings.CutSuffix(line, escape)
			b.WriteString(rest)
			if !goesOn {
				break
			}
			b.WriteByte(' ')
			for i++; i < len(lines); i++ { // comments and empty lines within are left out
				if line = strings.TrimSpace(lines[i]); line != "" && line[0] != '#' {
					break
				}
			}
			if i >= len(lines) {
				break
			}
		}
		whole := b.String()
		word, args := whole, ""
		if at := strings.IndexAny(whole, " \t"); at >= 0 {
			word, args = whole[:at], whole[at+1:]
		}
		word = strings.ToUpper(word)
		if !strings.Contains(known, " "+word+" ") {
			return nil, fmt.Errorf("line %d: %.40q is no instruction", first+1, word)
		}
		if len(steps) == maxSteps {
			return nil, fmt.Errorf("more than %d instructions", maxSteps)
		}
		s := blueprint.Step{Word: word, Args: strings.TrimSpace(args)}
		if word == "RUN" || word == "COPY" || word == "ADD" {
			i = heredocs(&s, lines, i)
		}
		last := min(i, len(lines)-1)
		s.At = blueprint.Span{File: name, Start: finding.Position{Line: first + 1, Column: 1 + len(lines[first]) - len(strings.TrimLeft(lines[first], " \t"))},
			End: finding.Position{Line: last + 1, Column: len(lines[last]) + 1}}
		s.Flags, s.Args = flags(s.Args)
		steps = append(steps, s)
	}
	return steps, nil
}

// heredocs adds what follows RUN <<EOF to the instruction, and returns the last
// line.
func heredocs(s *blueprint.Step, lines []string, i int) int {
	looked, found := 0, 0
	for _, w := range strings.Fields(s.Args) {
		mark, ok := strings.CutPrefix(w, "<<")
		if !ok {
			continue
		}
		mark = strings.Trim(strings.TrimPrefix(mark, "-"), `"'`)
		if mark == "" || found == maxHeredocs || strings.Contains(mark, "<") { // <<< is a text for the shell
			continue
		}
		end := endOfHeredoc(lines, i+1, mark, &looked)
		if end < 0 {
			continue // the shell's own, or none at all
		}
		found++
		var b strings.Builder
		for i++; i < end; i++ {
			b.WriteString(lines[i])
			b.WriteByte('\n')
		}
		if s.Word == "RUN" {
			s.Args = strings.Replace(s.Args, w, "", 1) + "\n" + b.String()
		}
	}
	return i
}

const (
	// maxLooked bounds the lines in which the ends of one instruction's heredocs are
	// looked for: each that never comes costs the whole file.
	maxLooked = 1_000_000
	// maxHeredocs bounds the heredocs of one instruction, each of which copies it.
	maxHeredocs = 100
)

// endOfHeredoc is the line with the mark that ends a heredoc, -1 for none.
func endOfHeredoc(lines []string, from int, mark string, looked *int) int {
	for i := from; i < len(lines) && *looked < maxLooked; i++ {
		*looked++
		if strings.TrimSpace(lines[i]) == mark {
			return i
		}
	}
	return -1
}

// flags takes --from=x and its like from the front.
func flags(args string) (out []string, rest string) {
	for strings.HasPrefix(args, "--") {
		word, after := args, ""
		if at := strings.IndexAny(args, " \t"); at >= 0 {
			word, after = args[:at], args[at+1:]
		}
		out = append(out, word)
		args = strings.TrimSpace(after)
	}
	return out, args
}

// stage is one FROM and what follows.
type stage struct {
	base  int // the stage that it is built upon, or -1
	image blueprint.Text
	at    blueprint.Span
	user  blueprint.Text
	check blueprint.State
	ports []blueprint.Text
	env   []blueprint.Variable
	steps []blueprint.Step
}

type file struct {
	arguments map[string]string // ARG before the first FROM, with a default
	unknown   map[string]bool   // those without
	byName    map[string]int
	stages    []stage
}

func (f *file) step(s blueprint.Step) {
	if s.Word == "ARG" && len(f.stages) == 0 {
		for _, w := range words(s.Args) {
			name, value, has := strings.Cut(w, "=")
			if has {
				f.arguments[name] = strings.Trim(value, `"'`)
			} else {
				f.unknown[name] = true
			}
		}
		return
	}
	if s.Word == "FROM" {
		f.from(s)
		return
	}
	if len(f.stages) == 0 {
		return
	}
	st := &f.stages[len(f.stages)-1]
	if s.Word == "ONBUILD" {
		// It is for who builds upon this image; what it does is done there.
		if inner, args, _ := strings.Cut(s.Args, " "); strings.EqualFold(inner, "RUN") || strings.EqualFold(inner, "ADD") {
			s.Word = strings.ToUpper(inner)
			s.Flags, s.Args = flags(strings.TrimSpace(args))
		}
	}
	st.steps = append(st.steps, s)
	switch s.Word {
	case "USER":
		st.user = textOf(s.Args, s.At)
	case "HEALTHCHECK":
		st.check = blueprint.Known
		if strings.EqualFold(strings.TrimSpace(s.Args), "NONE") {
			st.check = blueprint.Absent
		}
	case "EXPOSE":
		for _, p := range strings.Fields(s.Args) {
			st.ports = append(st.ports, textOf(p, s.At))
		}
	case "ENV", "ARG", "LABEL":
		st.env = append(st.env, variables(s)...)
	}
}

// textOf is a text; one with a variable in it is unknown.
func textOf(s string, at blueprint.Span) blueprint.Text {
	t := blueprint.KnownText(s, at)
	if strings.Contains(s, "$") {
		t.Is = blueprint.Unknown
	}
	return t
}

func (f *file) from(s blueprint.Step) {
	parts := strings.Fields(s.Args)
	if len(parts) == 0 {
		return
	}
	st := stage{base: -1, at: s.At}
	if n, ok := f.byName[strings.ToLower(parts[0])]; ok {
		st.base = n
	} else if parts[0] != "scratch" {
		st.image = f.substitute(parts[0], s.At)
		s.Image = st.image
	}
	if len(parts) == 3 && strings.EqualFold(parts[1], "as") {
		f.byName[strings.ToLower(parts[2])] = len(f.stages)
	}
	st.steps = []blueprint.Step{s}
	f.stages = append(f.stages, st)
}

// substitute puts the defaults of arguments into a name. What has none is
// unknown, and kept as ${…}.
func (f *file) substitute(name string, at blueprint.Span) blueprint.Text {
	t := blueprint.KnownText("", at)
	var b strings.Builder
	rest := name
	for {
		before, after, ok := strings.Cut(rest, "$")
		b.WriteString(before)
		if !ok {
			break
		}
		variable, fallback, hasFallback := "", "", false
		if inner, braced := strings.CutPrefix(after, "{"); braced {
			variable, rest, _ = strings.Cut(inner, "}")
			variable, fallback, hasFallback = strings.Cut(variable, ":-")
		} else {
			end := strings.IndexFunc(after, func(r rune) bool {
				return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
			})
			if end < 0 {
				end = len(after)
			}
			variable, rest = after[:end], after[end:]
		}
		value, given := f.arguments[variable]
		switch {
		case given && value != "":
			b.WriteString(value)
		case hasFallback:
			b.WriteString(fallback)
		default:
			t.Is = blueprint.Unknown
			b.WriteString("${…}")
		}
	}
	t.V = b.String()
	return t
}

// variables are what ENV, ARG and LABEL set.
func variables(s blueprint.Step) []blueprint.Variable {
	var out []blueprint.Variable
	list := words(s.Args)
	if s.Word == "ENV" && len(list) > 1 && !strings.Contains(list[0], "=") { // ENV NAME the value
		name, value, _ := strings.Cut(s.Args, " ")
		return []blueprint.Variable{{Name: blueprint.KnownText(name, s.At), Value: textOf(strings.TrimSpace(value), s.At), At: s.At}}
	}
	for _, w := range list {
		if name, value, ok := strings.Cut(w, "="); ok {
			out = append(out, blueprint.Variable{Name: blueprint.KnownText(strings.Trim(name, `"'`), s.At), Value: textOf(strings.Trim(value, `"'`), s.At), At: s.At})
		}
	}
	return out
}

// words splits at blanks that are not within quotes.
func words(s string) []string {
	var out []string
	var b strings.Builder
	quote := rune(0)
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
			continue
		}
		b.WriteRune(r)
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// build is the image that the last stage becomes, with the steps of all stages.
func (f *file) build(name string) blueprint.Build {
	last := len(f.stages) - 1
	b := blueprint.Build{Resource: blueprint.Resource{Name: path.Base(name), At: f.stages[last].at}, Origin: blueprint.BuildFile}
	within := map[int]bool{}
	for n := last; n >= 0; n = f.stages[n].base { // a base stands before who names it
		within[n] = true
		st := &f.stages[n]
		if b.User.Absent() {
			b.User = st.user
		}
		if b.Health == blueprint.Absent {
			b.Health = st.check
		}
		b.Ports = append(b.Ports, st.ports...)
		b.Base = st.image
	}
	for n := range f.stages {
		for _, s := range f.stages[n].steps {
			s.Last = within[n]
			b.Steps = append(b.Steps, s)
		}
		if within[n] {
			b.Env = append(b.Env, f.stages[n].env...)
		}
	}
	b.Windows = strings.Contains(b.Base.V, "windows/") || strings.Contains(b.Base.V, "nanoserver") || strings.Contains(b.Base.V, "servercore")
	return b
}
