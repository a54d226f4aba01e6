package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
)

// newAdmit is what decides on deployments.
func newAdmit(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "admit",
		Short: "Say what may be deployed, and why something may not",
		Long: `Decide on deployments by an admission policy: rules over what shall run and over
what is known of its images. The same policy decides at every door; test and
explain decide here, before anything reaches AWS.

  castellan admit init                       write a first policy, with comments
  castellan admit check                      is the policy well-formed?
  castellan admit test castellan-admission.yaml task-definition.json
  castellan admit explain castellan-admission.yaml task-definition.json
  castellan admit rules vulnerabilities      what a built-in rule does
  castellan admit schema                     what conditions can name

A server keeps the policy of the fleet, decides for the doors that ask it, and
keeps every verdict:

  castellan admit policy set castellan-admission.yaml
  castellan admit verdicts --outcome deny
  castellan admit explain 4711
  castellan admit replay castellan-admission.yaml --since 30d
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAdmitTest(g), newAdmitExplain(g), newAdmitCheck(g), newAdmitInit(g), newAdmitRules(g), newAdmitSchema(g), newAdmitBundle(g))
	c.AddCommand(g.admitOfFleet()...)
	return c
}

// admissionPolicy loads a policy; what is wrong with it is told line by line.
func (g *globals) admissionPolicy(name string) (*admit.Policy, error) {
	p, err := admit.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "%w", err).With("castellan admit init writes a first policy")
	}
	all := admit.Problems(err)
	if len(all) < 2 {
		return p, err
	}
	for _, problem := range all[:len(all)-1] {
		fmt.Fprintf(g.err, "%s\n", printable(problem.Error()))
		if problem.Remedy != "" {
			fmt.Fprintf(g.err, "  remedy: %s\n", printable(problem.Remedy))
		}
	}
	last := all[len(all)-1]
	return nil, fault.New(fault.Invalid, "%w", last).With(last.Remedy)
}

func newAdmitCheck(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [POLICY]",
		Short: "Say whether a policy is well-formed, and what it consists of",
		Long:  "Read an admission policy (" + admit.File + " if none is named) and say what is wrong\nwith it, each with its line; or list its rules and exceptions." + exitHelp,
		Args:  cobra.MaximumNArgs(1),
	}
	f := outputFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		name := admit.File
		if len(args) > 0 {
			name = args[0]
		}
		p, err := g.admissionPolicy(name)
		if err != nil {
			return err
		}
		answer := map[string]any{"name": p.Name(), "digest": p.Digest(), "mode": p.Mode(), "rules": p.Rules(), "exceptions": p.Exceptions()}
		return g.print(*f, answer, func() error {
			fmt.Fprintf(g.out, "%s is well-formed: %d rules, %d exceptions, mode %s\n\n", printable(name), len(p.Rules()), len(p.Exceptions()), p.Mode())
			var rows [][]cell
			for _, r := range p.Rules() {
				rows = append(rows, []cell{text(r.ID), text(string(r.Mode.Milder(p.Mode()))), text(r.Title), {fmt.Sprintf("line %d", r.Line), faint}})
			}
			return g.table([]string{"RULE", "MODE", "WHAT", ""}, rows)
		})
	}
	return c
}

func newAdmitInit(g *globals) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a first policy, with comments",
		Long: `Write a first admission policy (to ` + admit.File + ` if no file is named, to the
standard output for -). It tells what it would refuse and refuses nothing: its
mode is audit.` + exitHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := admit.File
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" {
				_, err := g.out.Write(admit.First())
				return err
			}
			flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(name, flags, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return fault.New(fault.Conflict, "%s is there already", name).With("name another file, or say --force to write over it")
			}
			if err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			_, err = f.Write(admit.First())
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
			fmt.Fprintf(g.out, "wrote %s; next: castellan admit test %s TASKDEF\n", printable(name), printable(name))
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "write over a file that is there")
	return c
}

func newAdmitRules(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "rules [ID]",
		Short: "List the built-in rules, or show one with its parameters",
		Long:  "List the built-in rules that a policy can use, or show one: what it refuses, its\nparameters, and its condition, with which a rule of your own can begin.\nThe form md is a page of documentation." + exitHelp,
		Args:  cobra.MaximumNArgs(1),
	}
	format := c.Flags().String("format", "text", "form of the list: text, json or md")
	c.RunE = func(_ *cobra.Command, args []string) error {
		all, err := admit.Builtins()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			for i := range all {
				if all[i].ID == args[0] {
					return g.builtin(&all[i], *format)
				}
			}
			return fault.New(fault.NotFound, "there is no built-in rule %q", args[0]).With("castellan admit rules lists them")
		}
		switch *format {
		case "text":
			var rows [][]cell
			for _, r := range all {
				rows = append(rows, []cell{{r.Topic, faint}, text(r.ID), severityCell(r.Severity), text(r.Title)})
			}
			return g.table([]string{"TOPIC", "RULE", "SEVERITY", "WHAT"}, rows)
		case "json":
			return writeJSON(g.out, all, "  ")
		case "md":
			return admit.WriteRules(g.out)
		}
		return usagef("--format %q: want text, json or md", *format)
	}
	return c
}

// builtin shows one built-in rule, as a policy would use it.
func (g *globals) builtin(r *admit.Builtin, format string) error {
	if format == "json" {
		return writeJSON(g.out, r, "  ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n%s\n\n  - use: %s\n", r.Title, r.Severity, r.Why, r.ID)
	if len(r.Parameters) > 0 {
		b.WriteString("    with:\n")
	}
	for _, p := range r.Parameters {
		value := p.Example
		if !p.Required {
			value = admit.ShowParameter(p.Default)
		}
		fmt.Fprintf(&b, "      %s: %s   # %s\n", p.Name, value, p.Doc)
	}
	fmt.Fprintf(&b, "\nIt asks for each %s, and denies if\n\n", r.For)
	for line := range strings.Lines(r.Deny) {
		b.WriteString("  " + line)
	}
	fmt.Fprintf(&b, "\n\nIf something that it needs is not known: %s.\n", r.Unknown)
	_, err := g.out.Write([]byte(b.String()))
	return err
}

func newAdmitSchema(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "schema",
		Short: "Say what conditions can name",
		Long:  "Print all variables, fields and functions that the conditions of rules have, with\ntheir types." + exitHelp,
		Args:  cobra.NoArgs,
	}
	format := c.Flags().String("format", "text", "form: text or json")
	c.RunE = func(*cobra.Command, []string) error {
		switch *format {
		case "text":
			return admit.WriteSchema(g.out)
		case "json":
			return writeJSON(g.out, admit.Describe(), "  ")
		}
		return usagef("--format %q: want text or json", *format)
	}
	return c
}
