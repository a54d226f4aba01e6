package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/untrusted"
)

func newWorkloads(g *globals) *cobra.Command {
	var o askOptions
	var all bool
	var limit int
	filters := map[string]*string{}
	c := &cobra.Command{
		Use:   "workloads [ID or name]",
		Short: "Show what runs where, or one workload with its processes",
		Long: `Show the running workloads with their ECS identity (--all: those that ended
too), or one of them with its isolation settings and its processes. It is named
by its container id, the beginning of that, its name or its group.
` + exitHelp,
		Args: cobra.MaximumNArgs(1),
	}
	o.flags(c)
	f := outputFlag(c)
	c.Flags().BoolVarP(&all, "all", "a", false, "what ended, too: workloads, or the processes of the one named")
	for name, help := range map[string]string{
		"group": "group: cluster/service/container", "cluster": "ECS cluster", "agent": "agent: its id",
		"image": "image: its id, sha256:…", "text": "part of name, group, image or id",
	} {
		filters[name] = c.Flags().String(name, "", help)
	}
	c.Flags().IntVarP(&limit, "limit", "n", 200, "how many, at most 1000")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return g.workload(c.Context(), api, args[0], all, *f)
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, v := range filters {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		if !all {
			q.Set("state", list([]asset.State{asset.Running, asset.Paused, asset.Created}))
			q.Set("state", strings.ReplaceAll(q.Get("state"), " ", ""))
		}
		if _, err := query.Workloads(q); err != nil {
			return usageError{err}
		}
		return g.workloads(c.Context(), api, q, *f)
	}
	return c
}

// workloadPage is the API's answer to a listing.
type workloadPage struct {
	Workloads []asset.Workload `json:"workloads"`
	Next      string           `json:"next,omitempty"`
}

func (g *globals) workloads(ctx context.Context, api *client, q url.Values, f form) error {
	var page workloadPage
	if err := api.get(ctx, "/workloads", q, &page); err != nil {
		return err
	}
	return g.print(f, page, func() error {
		if len(page.Workloads) == 0 {
			fmt.Fprintln(g.err, "no workload matches; make demo starts a small shop to look at")
			return nil
		}
		now := time.Now()
		rows := make([][]cell, 0, len(page.Workloads))
		for _, w := range page.Workloads {
			rows = append(rows, []cell{
				text(asset.ShortID(w.ID)), text(string(w.Group)), stateCell(w), text(age(w, now)),
				text(w.ECS.TaskID), text(w.Image.Reference),
			})
		}
		if err := g.table([]string{"ID", "GROUP", "STATE", "SINCE", "TASK", "IMAGE"}, rows); err != nil {
			return err
		}
		if page.Next != "" {
			fmt.Fprintln(g.err, "there are more; raise --limit or narrow with --group, --cluster or --text")
		}
		return nil
	})
}

func stateCell(w asset.Workload) cell {
	s := string(w.State)
	switch {
	case w.State == asset.Running:
		return cell{s, good}
	case w.OOMKilled:
		return cell{s + " (out of memory)", bad}
	case w.State == asset.Exited && w.ExitCode != nil && *w.ExitCode != 0:
		return cell{fmt.Sprintf("%s (%d)", s, *w.ExitCode), warn}
	case w.State == asset.Lost:
		return cell{s, warn}
	}
	return cell{s, plain}
}

// age is how long a workload has been in its state.
func age(w asset.Workload, now time.Time) string {
	switch {
	case w.Finished != nil:
		return ago(*w.Finished, now)
	case w.Started != nil:
		return ago(*w.Started, now)
	}
	return ago(w.Created, now)
}

// processAnswer is the API's answer about the processes of a workload.
type processAnswer struct {
	Processes []event.Running `json:"processes"`
}

func (g *globals) workload(ctx context.Context, api *client, name string, all bool, f form) error {
	w, err := find(ctx, api, name)
	if err != nil {
		return err
	}
	var procs processAnswer
	if err := api.get(ctx, "/workloads/"+url.PathEscape(w.ID)+"/processes", nil, &procs); err != nil {
		return err
	}
	answer := struct {
		asset.Workload
		Processes []event.Running `json:"processes"`
	}{w, procs.Processes}
	return g.print(f, answer, func() error {
		g.describeWorkload(w)
		fmt.Fprintln(g.out)
		shown := procs.Processes
		if !all {
			shown = slices.DeleteFunc(slices.Clone(shown), func(p event.Running) bool { return p.Ended != nil })
		}
		if len(shown) == 0 {
			fmt.Fprintln(g.out, g.paint("no process runs", faint))
		}
		if err := g.tree(shown); err != nil {
			return err
		}
		if ended := len(procs.Processes) - len(shown); ended > 0 {
			fmt.Fprintln(g.out, g.paint(fmt.Sprintf("%d more ended in the last minutes: --all shows them", ended), faint))
		}
		return nil
	})
}

// find returns the one workload that name means.
func find(ctx context.Context, api *client, name string) (asset.Workload, error) {
	const containerID = 64
	var w asset.Workload
	if len(name) == containerID {
		return w, api.get(ctx, "/workloads/"+url.PathEscape(name), nil, &w)
	}
	var page workloadPage
	if err := api.get(ctx, "/workloads", url.Values{"text": {name}, "limit": {"1000"}}, &page); err != nil {
		return w, err
	}
	var exact, begun []asset.Workload
	for _, w := range page.Workloads {
		switch {
		case w.Name == name, string(w.Group) == name, w.ECS.Container == name:
			exact = append(exact, w)
		case strings.HasPrefix(w.ID, name):
			begun = append(begun, w)
		}
	}
	// Running ones come first in the answer; an ended one of the same name is
	// meant only if none runs.
	for i, found := range [][]asset.Workload{exact, begun} {
		live := slices.DeleteFunc(slices.Clone(found), func(w asset.Workload) bool { return w.State != asset.Running })
		switch {
		case len(live) == 1:
			return live[0], nil
		case len(live) > 1:
			what := [...]string{"are called", "have an id that begins with"}[i]
			return w, fault.New(fault.Invalid, "%d running workloads %s %q", len(live), what, name).With("name one by its id: " + someIDs(live))
		case len(found) > 0:
			return found[0], nil
		}
	}
	return w, fault.New(fault.NotFound, "no workload is called %q", name).With("list them: castellan workloads --all")
}

// someIDs are short ids of workloads with their names, of the first few.
func someIDs(all []asset.Workload) string {
	const most = 5
	var out []string
	for _, w := range all[:min(len(all), most)] {
		out = append(out, asset.ShortID(w.ID)+" ("+w.Name+")")
	}
	if n := len(all) - most; n > 0 {
		out = append(out, fmt.Sprintf("and %d more: castellan workloads", n))
	}
	return strings.Join(out, ", ")
}

func (g *globals) describeWorkload(w asset.Workload) {
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.out, "%s %s\n", g.paint(fmt.Sprintf("%-12s", name), faint), printable(value))
		}
	}
	field("id", w.ID)
	field("group", string(w.Group))
	field("name", w.Name)
	field("state", stateCell(w).text)
	field("task", w.ECS.TaskARN)
	if w.ECS.Family != "" {
		field("definition", w.ECS.Family+":"+w.ECS.Revision)
	}
	field("image", w.Image.Reference)
	field("digest", w.Image.Digest)
	field("user", orDefault(w.Settings.User, "root (none set)"))
	field("network", w.Settings.NetworkMode)
	var risks []string
	for risk, is := range map[string]bool{
		"privileged":              w.Settings.Privileged,
		"host network":            w.Settings.NetworkMode == "host",
		"host processes":          w.Settings.PIDMode == "host",
		"added capabilities":      len(w.Settings.CapAdd) > 0,
		"container engine socket": slices.ContainsFunc(w.Settings.Mounts, func(m asset.Mount) bool { return strings.HasSuffix(m.Source, "docker.sock") }),
	} {
		if is {
			risks = append(risks, risk)
		}
	}
	slices.Sort(risks)
	field("risky", strings.Join(risks, ", "))
	if w.Partial {
		field("note", "gone before the engine could be asked; what is known comes from its events or the kernel")
	}
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// tree prints processes as a tree, children under their parents.
func (g *globals) tree(procs []event.Running) error {
	here := map[event.Key]bool{}
	for _, p := range procs {
		here[p.Process.Key] = true
	}
	children := map[event.Key][]event.Running{}
	for _, p := range procs {
		parent := p.Process.Parent
		if !here[parent] {
			parent = event.Key{}
		}
		children[parent] = append(children[parent], p)
	}
	var walk func(parent event.Key, indent string) error
	walk = func(parent event.Key, indent string) error {
		siblings := children[parent]
		delete(children, parent) // a circle, which a hostile agent could report, ends here
		for i, p := range siblings {
			branch, below := "├─ ", "│  "
			if i == len(siblings)-1 {
				branch, below = "└─ ", "   "
			}
			if err := g.printProcess(indent+branch, p); err != nil {
				return err
			}
			if err := walk(p.Process.Key, indent+below); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(event.Key{}, "")
}

func (g *globals) printProcess(indent string, p event.Running) error {
	what := untrusted.CommandLine(p.Args)
	if what == "" {
		what = orDefault(p.Process.Executable, p.Process.Name)
	}
	line := fmt.Sprintf("%s%d %s", indent, p.Process.Key.PID, printable(what))
	marks := g.marks(&event.Event{Exec: &event.Exec{Entered: p.Entered, Origin: p.Origin}})
	if marks != "" {
		line += "  " + marks
	}
	if p.Exit != nil {
		line = g.paint(fmt.Sprintf("%s  ended (%d)", line, p.Exit.Code), faint)
	}
	_, err := fmt.Fprintln(g.out, line)
	return err
}
