package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/castellan-security/castellan/internal/fault"
)

// What somebody types who comes from another tool, or has never typed it, gets an
// answer that says what to type instead.

// wrongUsage makes wrong arguments of every command exit as wrong usage.
func wrongUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{wrongArguments(c, args, err)}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrongUsage(sub)
	}
}

// wrongArguments says what a command wants, where it got too many or too few.
func wrongArguments(c *cobra.Command, args []string, err error) error {
	if c.HasSubCommands() && len(args) > 0 && !takesArguments(c) {
		unknown := fault.New(fault.Invalid, "unknown command %q for %q", args[0], c.CommandPath())
		c.SuggestionsMinimumDistance = 2 // letters
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return unknown.With(fmt.Sprintf("did you mean %s %s?", c.CommandPath(), near[0]))
		}
		return unknown
	}
	if c.Name() == "scan" && len(args) > 1 {
		if instead := scanWord(args[0], args[1]); instead != "" {
			return fault.New(fault.Invalid, "scan takes one TARGET, and no word before it: %q", args[0]).With("castellan scan " + instead)
		}
	}
	if !takesArguments(c) {
		return err
	}
	got := "none is given"
	if n := len(args); n > 0 {
		got = several(n, "argument") + " given"
	}
	return fmt.Errorf("want %s, and %s", strings.TrimSpace(strings.TrimPrefix(c.Use, c.Name())), got)
}

// takesArguments says that a command's usage names some.
func takesArguments(c *cobra.Command) bool { return strings.Contains(c.Use, " ") }

// scanWord is what to type for a command of other scanners, "" for what is none.
func scanWord(word, target string) string {
	switch word {
	case "image", "img", "container":
		return target
	case "fs", "filesystem", "dir":
		return "dir:" + target
	case "rootfs":
		return "root:" + target
	case "repo", "repository", "detect", "secret", "secrets":
		return "git " + target
	case "config", "conf", "terraform", "cloudformation", "dockerfile", "misconfig":
		return "iac " + target
	case "sbom":
		return "sbom:" + target
	}
	return ""
}

// wrongFlag says of a flag of other scanners which one here does that.
func wrongFlag(c *cobra.Command, err error) error {
	name := strings.TrimLeft(strings.TrimPrefix(err.Error(), "unknown flag: "), "-")
	if short, ok := strings.CutPrefix(err.Error(), "unknown shorthand flag: "); ok {
		name = strings.Trim(short[:min(3, len(short))], "'")
	}
	if !strings.HasPrefix(err.Error(), "unknown ") {
		return usageError{err}
	}
	instead := map[string]string{
		"severity": "--fail-on high fails from a severity on; reports have all", "severity-cutoff": "--fail-on high", "exit-code": "--fail-on high exits with 3",
		"fail": "--fail-on high", "fail-on-severity": "--fail-on high", "ignore-unfixed": "--only-fixed, with --fail-on", "only-fixed": "it is for packages: castellan scan",
		"format": "-o json, or -o json=FILE; may be repeated", "f": "-o json, or -o json=FILE; may be repeated", "report-path": "-o json=FILE", "report-format": "-o sarif=FILE",
		"image": "castellan scan NAME", "input": "castellan scan archive:FILE", "source": "castellan scan git PATH", "ignorefile": "--policy FILE, with ignore",
		"ignore-policy": "--policy FILE", "baseline-path": "--baseline FILE", "scanners": "all are on; --no-secrets, --no-malware and --no-match switch off",
		"quiet": "progress is shown on terminals alone; --log-level error", "q": "progress is shown on terminals alone; --log-level error", "json": "-o json", "sarif": "-o sarif",
		"debug": "--log-level debug", "verbose": "--log-level debug", "v": "--log-level debug", "skip-db-update": "nothing is fetched unless you ask: castellan scan db update",
		"db-repository": "castellan scan db update --from registry:REFERENCE", "username": "CASTELLAN_REGISTRY_USER and its like, or docker login",
		"password": "CASTELLAN_REGISTRY_PASSWORD and its like, or docker login", "insecure": "--plain-http, or --registry-ca FILE",
	}[name]
	if instead == "" || !isScan(c) {
		if near := nearFlag(c, name); near != "" {
			return usageError{fault.New(fault.Invalid, "%w", err).With("did you mean --" + near + "?")}
		}
		return usageError{err}
	}
	return usageError{fault.New(fault.Invalid, "%w", err).With(instead)}
}

// isScan says that a command is scan, or one of those below.
func isScan(c *cobra.Command) bool {
	for ; c != nil; c = c.Parent() {
		if c.Name() == "scan" {
			return true
		}
	}
	return false
}

// nearFlag is a flag of the command that begins like a name, or is part of it.
func nearFlag(c *cobra.Command, name string) (near string) {
	const least = 3 // of fewer letters anything is near
	if len(name) < least {
		return ""
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && near == "" && (strings.HasPrefix(f.Name, name) || strings.HasPrefix(name, f.Name) || strings.Contains(f.Name, name)) {
			near = f.Name
		}
	})
	return near
}
