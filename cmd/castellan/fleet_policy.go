package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/fault"
)

// fleetPolicy is a policy that the server keeps for the fleet, with all its
// versions.
type fleetPolicy struct {
	name    string // trust or admission
	route   string // of the API: /trust or /admit
	command string // by which it is set
	max     int64  // bytes of its text
	keeps   int    // versions
	set     string // what it means to set it, ending its first line
	example string
	next    string // what to do once it is set
}

// policyVersion is a version of either, as the API tells it.
type policyVersion struct {
	Version int64     `json:"version"`
	Digest  string    `json:"digest"`
	Text    string    `json:"text,omitempty"`
	Actor   string    `json:"actor"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
}

// policyPage is the API's answer to a listing of policies.
type policyPage struct {
	Policies []policyVersion `json:"policies"`
}

func (p *fleetPolicy) showCommand(g *globals, o *askOptions) *cobra.Command {
	var version int64
	about := fmt.Sprintf("Print the fleet's %s policy, as the server keeps it", p.name)
	c := &cobra.Command{Use: "show", Short: about, Long: about + ".\n" + exitHelp, Args: cobra.NoArgs}
	f := outputFlag(c)
	c.Flags().Int64Var(&version, "version", 0, "print this version (default: the newest)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var v policyVersion
		if err := api.get(c.Context(), p.route+"/policy", url.Values{"version": {strconv.FormatInt(version, 10)}}, &v); err != nil {
			return err
		}
		return g.print(*f, v, func() error {
			fmt.Fprintf(g.err, "version %d by %s, %s\n", v.Version, printable(v.Actor), v.Created.Local().Format(time.DateTime))
			_, err := fmt.Fprint(g.out, v.Text)
			return err
		})
	}
	return c
}

func (p *fleetPolicy) setCommand(g *globals, o *askOptions) *cobra.Command {
	var comment string
	var after int64
	c := &cobra.Command{
		Use:     "set FILE",
		Short:   fmt.Sprintf("Make a file the fleet's %s policy", p.name),
		Long:    fmt.Sprintf("Make a file (\"-\" is the standard input) the fleet's %s policy. %s\n%s", p.name, p.set, exitHelp),
		Example: "  " + p.example,
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&comment, "comment", "", "why it is changed")
	c.Flags().Int64Var(&after, "after", 0, "the version that was changed, 0 for none (default: whatever is the newest)")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := g.readSmall(args[0], p.max)
		if err != nil {
			return fmt.Errorf("read %s policy: %w", p.name, err)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		if !c.Flags().Changed("after") {
			var v policyVersion
			if err := api.get(c.Context(), p.route+"/policy", nil, &v); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			after = v.Version
		}
		var v policyVersion
		if err := api.do(c.Context(), http.MethodPut, p.route+"/policy", map[string]any{"text": string(b), "comment": comment, "after": after}, &v); err != nil {
			return ofFile(err, args[0])
		}
		_, err = fmt.Fprintf(g.out, "version %d is the %s policy now; %s\n", v.Version, p.name, p.next)
		return err
	}
	return c
}

// ofFile has places in a refused policy name the file that it was read from, where the
// server knows only a text.
func ofFile(err error, file string) error {
	if !fault.Is(err, fault.Invalid) {
		return err
	}
	text := policyPlace.ReplaceAllString(err.Error(), "${1}"+strings.ReplaceAll(file, "$", "$$")+"$2")
	return fault.New(fault.Invalid, "%s", text).With(fault.Remedy(err))
}

// policyPlace finds a place in a policy as servers tell it: policy:7:17.
var policyPlace = regexp.MustCompile(`(^|server: |\n)policy(:\d+:\d+: )`)

func (p *fleetPolicy) historyCommand(g *globals, o *askOptions) *cobra.Command {
	about := fmt.Sprintf("Say who changed the fleet's %s policy, when and why", p.name)
	c := &cobra.Command{Use: "history", Short: about, Long: about + "; the newest first.\n" + exitHelp, Args: cobra.NoArgs}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var page policyPage
		if err := api.get(c.Context(), p.route+"/policies", url.Values{"limit": {strconv.Itoa(p.keeps)}}, &page); err != nil {
			return err
		}
		return g.print(*f, page, func() error {
			if len(page.Policies) == 0 {
				fmt.Fprintf(g.err, "there is no %s policy yet; %s FILE\n", p.name, p.command)
				return nil
			}
			rows := make([][]cell, 0, len(page.Policies))
			for _, v := range page.Policies {
				rows = append(rows, []cell{{strconv.FormatInt(v.Version, 10), plain}, {v.Created.Local().Format(time.DateTime), plain}, text(v.Actor), text(v.Comment)})
			}
			return g.table([]string{"VERSION", "CHANGED", "BY", "WHY"}, rows)
		})
	}
	return c
}
