package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

// hardenFlags say what is written, and where.
type hardenFlags struct {
	ask                                      askOptions
	profile, task, container, module, folder string
	outputs                                  []string
}

func newHarden(g *globals) *cobra.Command {
	var h hardenFlags
	c := &cobra.Command{
		Use:   "harden GROUP",
		Short: "Write a group's profile for AppArmor, seccomp, SELinux, Landlock and ECS",
		Long: `Write what the profile of a group comes to for those who can hold its containers
to it without an agent: an AppArmor profile, a seccomp profile, a module for
SELinux, rules for Landlock (castellan harden run puts them in force, also on
Fargate), and the task definition, hardened, as a diff with a reason for each
change.

Each of them says less than the profile. What is wider, narrower, or needs
something of you is told with it: read that before you use it.
` + exitHelp,
		Example: "  castellan harden shop/web/nginx --profile profile.json --task-definition task.json -o hardened\n" +
			"  castellan harden shop/web/nginx --profile profile.json --output apparmor > castellan-shop.web.nginx\n" +
			"  castellan harden run --rules rules.json -- nginx -g 'daemon off;'",
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&h.profile, "profile", "", "`file` with the profile, YAML or JSON; without it the server is asked")
	h.ask.flags(c)
	f.StringSliceVar(&h.outputs, "output", []string{"all"}, "what to write: "+list(harden.Outputs())+", or all; several with commas")
	f.StringVar(&h.task, "task-definition", "", "file with the task definition to harden (JSON), as ECS registers or describes it")
	f.StringVar(&h.container, "container", "", "name of the container in the task definition (else the last part of GROUP)")
	f.StringVar(&h.module, "module", string(harden.AppArmor), "security module of the hosts that the task definition names a profile for: apparmor, selinux or none")
	f.StringVarP(&h.folder, "directory", "o", "", "folder to write the files into, with report.json")
	c.RunE = func(c *cobra.Command, args []string) error { return g.harden(c.Context(), asset.Group(args[0]), h) }
	c.AddCommand(newHardenRun(g))
	return c
}

func (g *globals) harden(ctx context.Context, group asset.Group, h hardenFlags) error {
	o, err := h.options()
	if err != nil {
		return err
	}
	p, err := g.profileOf(ctx, group, h)
	if err != nil {
		return err
	}
	r, err := harden.Compile(&p, o)
	if err != nil {
		return err
	}
	if h.folder == "" {
		if _, err := io.WriteString(g.out, r.Files[0].Content); err != nil {
			return err
		}
		return g.hardenReport(g.err, &r, o, true)
	}
	if err := writeHardened(h.folder, &r); err != nil {
		return err
	}
	for _, f := range r.Files {
		fmt.Fprintf(g.out, "wrote %s\n", printable(filepath.Join(h.folder, f.Name)))
	}
	if r.Diff != "" {
		fmt.Fprintf(g.out, "wrote %s\n", printable(filepath.Join(h.folder, diffFile)))
	}
	fmt.Fprintf(g.out, "wrote %s, which says all that follows of each path\n", printable(filepath.Join(h.folder, reportFile)))
	return g.hardenReport(g.out, &r, o, false)
}

// options returns what is asked for, or what is wrong with that.
func (h hardenFlags) options() (o harden.Options, err error) {
	for _, word := range h.outputs {
		switch {
		case word == "all":
			o.Outputs = harden.Outputs()
			if h.task == "" {
				o.Outputs = slices.DeleteFunc(o.Outputs, func(x harden.Output) bool { return x == harden.TaskDefinition })
			}
		case !slices.Contains(harden.Outputs(), harden.Output(word)):
			return o, usagef("--output %q: want some of %s, or all", word, list(harden.Outputs()))
		case !slices.Contains(o.Outputs, harden.Output(word)):
			o.Outputs = append(o.Outputs, harden.Output(word))
		}
	}
	wantsTask := slices.Contains(o.Outputs, harden.TaskDefinition)
	switch {
	case len(o.Outputs) == 0:
		return o, usagef("--output: say what to write: %s, or all", list(harden.Outputs()))
	case len(o.Outputs) > 1 && h.folder == "":
		return o, usagef("several outputs need a folder: -o DIR; or say which one: --output apparmor")
	case wantsTask && h.task == "":
		return o, usagef("say which task definition to harden: --task-definition FILE")
	case !wantsTask && h.task != "":
		return o, usagef("--task-definition is there and is not among the outputs: say --output task-definition too")
	}
	switch h.module {
	case string(harden.AppArmor), string(harden.SELinux):
		o.Module = harden.Output(h.module)
	case "none":
	default:
		return o, usagef("--module %q: want apparmor, selinux or none", h.module)
	}
	if wantsTask {
		o.File, o.Container = filepath.Base(h.task), h.container
		const most = 1 << 20
		if o.TaskDefinition, err = readAtMost(h.task, most); err != nil {
			return o, fmt.Errorf("read task definition: %w", err)
		}
	}
	return o, nil
}

// profileOf returns the profile of a group, from a file or from the server.
func (g *globals) profileOf(ctx context.Context, group asset.Group, h hardenFlags) (p profile.Profile, err error) {
	file := h.profile
	if file == "" {
		api, err := g.dial(h.ask)
		if err != nil {
			return p, err
		}
		err = api.get(ctx, "/watch/profile", url.Values{"group": {string(group)}}, &p)
		return p, err
	}
	b, err := readAtMost(file, harden.MaxProfile)
	if err != nil {
		return p, fmt.Errorf("read profile: %w", err)
	}
	if p, err = readProfile(b, file); err != nil {
		return p, err
	}
	if p.Group == "" {
		p.Group = group
	}
	if p.Group != group {
		return p, fault.New(fault.Invalid, "%s is the profile of %s, not of %s", file, p.Group, group).With("name its group, or give the profile of the one that you mean")
	}
	return p, nil
}

// readProfile reads a profile in either of its forms.
func readProfile(b []byte, file string) (profile.Profile, error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		p, err := harden.ReadProfile(b)
		if err != nil {
			return p, fmt.Errorf("%s: %w", file, err)
		}
		return p, nil
	}
	d, err := watch.Read(b, file)
	if err != nil {
		return profile.Profile{}, err
	}
	return *d.Profile, nil
}

// Files beside the outputs.
const (
	diffFile   = "task-definition.diff"
	reportFile = "report.json"
)

// writeHardened writes the files of a result into a folder.
func writeHardened(folder string, r *harden.Result) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	write := func(name string, to func(io.Writer) error) error {
		if err := writeWhole(filepath.Join(folder, name), false, to); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		return nil
	}
	for _, f := range r.Files {
		if err := write(f.Name, func(w io.Writer) error { _, err := io.WriteString(w, f.Content); return err }); err != nil {
			return err
		}
	}
	if r.Diff != "" {
		if err := write(diffFile, func(w io.Writer) error { _, err := io.WriteString(w, r.Diff); return err }); err != nil {
			return err
		}
	}
	return write(reportFile, func(w io.Writer) error { return writeJSON(w, r, "  ") })
}

// hardenReport tells what was changed and why, with the diff if that is not in a file, and
// what is not as the profile says.
func (g *globals) hardenReport(w io.Writer, r *harden.Result, o harden.Options, diff bool) error {
	var b strings.Builder
	if slices.Contains(o.Outputs, harden.TaskDefinition) {
		if diff {
			for line := range strings.Lines(r.Diff) {
				b.WriteString(g.painted(line))
			}
		}
		if r.Diff == "" {
			b.WriteString("the task definition is as hard as the profile makes it: nothing changes\n")
		}
		for _, c := range r.Changes {
			fmt.Fprintf(&b, "%s: %s\n", printable(c.Path), printable(c.Reason))
		}
	}
	for _, effect := range []harden.Effect{harden.Narrower, harden.Wider, harden.Advice} {
		for _, n := range notesAlike(r.Notes, effect) {
			fmt.Fprintf(&b, "%s %s %s\n", g.paint(string(effect), effectTones[effect]), n.output, printable(n.words()))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// alike are notes that say the same of several things.
type alike struct {
	output harden.Output
	text   string
	first  string // of about, as its own note has it
	about  []string
}

var inFolder = regexp.MustCompile(`in /\S+ may`)

// notesAlike gathers the notes of an effect, in the order of their first.
func notesAlike(notes []harden.Note, effect harden.Effect) (out []*alike) {
	type key struct {
		output harden.Output
		text   string
	}
	known := map[key]*alike{}
	for _, n := range notes {
		if n.Effect != effect {
			continue
		}
		text := inFolder.ReplaceAllString(n.Text, "in its folder may") // the path itself says which
		k := key{n.Output, text}
		if known[k] == nil {
			known[k] = &alike{output: n.Output, text: text, first: n.Text}
			out = append(out, known[k])
		}
		if n.About != "" {
			known[k].about = append(known[k].about, n.About)
		}
	}
	return out
}

func (a *alike) words() string {
	const shown = 2
	switch n := len(a.about); {
	case n == 0:
		return a.first
	case n == 1:
		return a.about[0] + ": " + a.first
	case n <= shown+1:
		return strings.Join(a.about, ", ") + ": " + a.text
	default:
		return fmt.Sprintf("%s and %d more: %s", strings.Join(a.about[:shown], ", "), n-shown, a.text)
	}
}

var effectTones = map[harden.Effect]tone{harden.Narrower: bad, harden.Wider: warn, harden.Advice: faint}

// painted is a line of a diff as it is shown.
func (g *globals) painted(line string) string {
	text := printable(strings.TrimSuffix(line, "\n"))
	switch {
	case strings.HasPrefix(text, "+"):
		return g.paint(text, good) + "\n"
	case strings.HasPrefix(text, "-"):
		return g.paint(text, bad) + "\n"
	}
	return text + "\n"
}
