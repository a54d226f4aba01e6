package secret

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// configuration is an image's configuration on its way.
type configuration struct {
	e        *Engine
	found    []inventory.Secret
	problems []inventory.Problem
}

// part is a text of an image's configuration, and how it is looked through.
type part struct {
	file File
	text string
	more func(*sifting) // beside what rules find
}

func variablePart(v string) part {
	name, value, named := strings.Cut(v, "=")
	if !named {
		name = "" // all of it may be the value
	}
	return part{File{Source: inventory.InEnv, Name: name}, v, func(s *sifting) { s.pair(name, value) }}
}

func labelPart(name, v string) part {
	return part{File{Source: inventory.InLabel, Name: name}, name + "=" + v, func(s *sifting) { s.pair(name, v) }}
}

func commandPart(words []string) part {
	return part{File{Source: inventory.InCommand}, strings.Join(words, " "), func(s *sifting) { s.words(words) }}
}

// stepPart is an instruction of the build, as the history has it.
func stepPart(instruction, name string) part {
	source := inventory.InHistory
	if strings.HasPrefix(instruction, "ARG ") || strings.HasPrefix(instruction, "RUN |") {
		source = inventory.InArgument
	}
	return part{File{Source: source, Name: name}, instruction, func(s *sifting) { s.words(strings.Fields(instruction)) }}
}

// Config finds secrets in what an image's configuration says: variables, labels,
// build steps with their arguments, and what is run. What is not looked through
// to its end is a problem.
func (e *Engine) Config(i *inventory.Image) ([]inventory.Secret, []inventory.Problem) {
	c := &configuration{e: e}
	for n, v := range i.Config.Env {
		c.look(variablePart(v), fmt.Sprintf("variable %d", n+1))
	}
	for n, name := range slices.Sorted(maps.Keys(i.Config.Labels)) {
		c.look(labelPart(name, i.Config.Labels[name]), fmt.Sprintf("label %d", n+1))
	}
	for _, list := range [][]string{i.Config.Entrypoint, i.Config.Cmd, i.Config.Healthcheck} {
		c.look(commandPart(list), "command")
	}
	c.history(i.History)
	return c.found, c.problems
}

// look looks through one text; called is it for people, who may not be shown its
// name.
func (c *configuration) look(p part, called string) {
	if len(p.text) > maxText {
		c.problem(called, fmt.Errorf("of its %d bytes the first %d were looked at for secrets", len(p.text), maxText))
		p.text = p.text[:maxText]
	}
	found, err := c.e.findText(p.file, []byte(p.text), p.more)
	if errors.Is(err, ErrMany) {
		c.problem(called, err)
	}
	c.found = append(c.found, found...)
}

func (c *configuration) problem(called string, err error) {
	c.problems = append(c.problems, inventory.Problem{What: fmt.Sprintf("%s of the image's configuration: %v", called, err)})
}

// history looks through the steps of the build.
func (c *configuration) history(steps []inventory.Step) {
	kept := map[string]bool{} // values that are told already
	for k := range c.found {
		kept[c.found[k].Same] = true
	}
	layers := 0
	for n, step := range steps {
		if !step.Empty {
			layers++
		}
		name := fmt.Sprintf("step %d", n+1)
		at := len(c.found)
		c.look(stepPart(step.Instruction, name), name)
		if strings.HasPrefix(step.Instruction, "ENV ") || strings.HasPrefix(step.Instruction, "LABEL ") {
			// What a later step did not override is in the configuration.
			c.found = append(c.found[:at], slices.DeleteFunc(c.found[at:], func(s inventory.Secret) bool { return kept[s.Same] })...)
		}
		for k := at; k < len(c.found); k++ {
			if !step.Empty {
				c.found[k].Layer = layers
			}
		}
	}
}

// pair keeps a value with its name, where the text of both is looked through.
func (s *sifting) pair(name, value string) {
	v, ok := judge.Pair(name, value, judge.Own)
	if !ok {
		return
	}
	value = strings.TrimSpace(value)
	at := strings.Index(string(s.buf[min(len(name), len(s.buf)):]), value)
	if at < 0 {
		return // it was cut
	}
	s.add(ruleOf(v.Kind, name, value), name, value, v.Doubt, at+len(name))
}

// words keeps the secrets among the words of a command, where the text that they
// make is looked through. Those that are one by their form rules have found.
func (s *sifting) words(list []string) {
	for _, w := range judge.Words(list) {
		if at := bytes.Index(s.buf, []byte(w.Value)); w.Of != "" && at >= 0 {
			s.add(ruleOf(w.Of, w.Name, w.Value), w.Name, w.Value, "", at)
		}
	}
}
