package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// newInvitation is the API's answer to an invitation: the only time that the
// token is shown.
type newInvitation struct {
	Invitation  access.Invitation `json:"invitation"`
	Token       string            `json:"token"`
	Server      string            `json:"server"`
	Fingerprint string            `json:"ca_fingerprint"`
}

// certificatePage is the API's answer to a listing.
type certificatePage struct {
	Certificates []access.Certificate `json:"certificates"`
}

// settingsAnswer is what is kept of settings and what holds.
type settingsAnswer struct {
	Settings  asset.AgentSettings `json:"settings"`
	Effective asset.AgentSettings `json:"effective"`
}

func (g *globals) agentInvite(o *askOptions) *cobra.Command {
	var name string
	var expires time.Duration
	c := &cobra.Command{
		Use:   "invite",
		Short: "Invite one agent: print a token, once, and what to type on its host",
		Args:  cobra.NoArgs,
	}
	c.Flags().StringVar(&name, "name", "", "what the invitation is for, as in the host's name")
	c.Flags().DurationVar(&expires, "expires", time.Hour, "how long the token is good, 24h at most")
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if expires < time.Minute || expires > 24*time.Hour {
			return usagef("--expires %s: want 1m to 24h", expires)
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		var made newInvitation
		body := map[string]any{"name": name, "expires_in_seconds": int64(expires / time.Second)}
		if err := api.do(c.Context(), http.MethodPost, "/agents/invitations", body, &made); err != nil {
			return err
		}
		if o.server != "" {
			made.Server = o.server
		}
		return g.print(*f, made, func() error {
			fmt.Fprintf(g.err, "The token, good once and for %s. On the agent's host, as root:\n\n  %s=%s castellan agent join --server %s --ca-fingerprint %s\n\n",
				span(expires), joinToken, made.Token, printable(made.Server), printable(made.Fingerprint))
			_, err := fmt.Fprintln(g.out, made.Token)
			return err
		})
	}
	return c
}

func (g *globals) agentRevoke(o *askOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke AGENT",
		Short: "Revoke an agent's certificates; it is cut off within a second",
		Long:  "What it reported stays. It may join again with a new invitation.\n",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(*o)
			if err != nil {
				return err
			}
			id, err := certified(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			var done struct{ Revoked int }
			if err := api.do(c.Context(), http.MethodDelete, "/agents/"+url.PathEscape(id)+"/certificates", nil, &done); err != nil {
				return err
			}
			if done.Revoked == 0 {
				_, err = fmt.Fprintf(g.out, "%s was revoked before.\n", printable(id))
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s is revoked.\n", printable(id))
			return err
		},
	}
}

// certified finds the agent that is meant among those that have a certificate:
// one that joined and never reported can be revoked, too.
func certified(ctx context.Context, api *client, name string) (string, error) {
	var page certificatePage
	if err := api.get(ctx, "/agents/certificates", nil, &page); err != nil {
		return "", err
	}
	var agents []asset.Agent
	seen := map[string]bool{}
	for _, c := range page.Certificates {
		if !seen[c.AgentID] {
			seen[c.AgentID] = true
			agents = append(agents, asset.Agent{ID: c.AgentID, Hostname: c.Hostname})
		}
	}
	a, err := findAgent(agents, name)
	if fault.Is(err, fault.NotFound) {
		return "", fault.New(fault.NotFound, "no agent with a certificate is called %q", name).With("list them: castellan agents certificates")
	}
	return a.ID, err
}

func (g *globals) agentCertificates(o *askOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "certificates",
		Short: "List the certificates that agents were given",
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return printAnswer(c.Context(), g, *o, *f, "/agents/certificates", func(page *certificatePage) error { return g.certificates(page.Certificates) })
	}
	return c
}

func (g *globals) certificates(all []access.Certificate) error {
	now := time.Now()
	rows := make([][]cell, 0, len(all))
	for _, c := range all {
		state := cell{"ends in " + span(c.Expires.Sub(now)), good}
		switch {
		case c.Revoked != nil:
			state = cell{"revoked " + ago(*c.Revoked, now), bad}
		case now.After(c.Expires):
			state = cell{"expired", warn}
		}
		rows = append(rows, []cell{text(c.Hostname), text(c.AgentID), state, text(ago(c.Issued, now)), text(c.Address), text(cut(c.Serial, shortAgentID))})
	}
	return g.table([]string{"HOST", "AGENT", "STATE", "ISSUED", "FROM", "SERIAL"}, rows)
}

// settingsFlags are what a command line says of settings.
type settingsFlags struct {
	off, sensitive []string
	window         time.Duration
	all, clear     bool
}

func (g *globals) agentSettings(o *askOptions) *cobra.Command {
	var s settingsFlags
	c := &cobra.Command{
		Use:   "settings [AGENT]",
		Short: "Show or change what agents are to do; connected ones have it within a second",
		Long: `Settings of one agent hold instead of those of all. What is not named stays as
it is. An agent never switches on what its own flags switch off.
`,
		Example: "  castellan agents settings --all --sensitive '/etc/app/*.key'\n  castellan agents settings host-7 --sensor-off file --window 60s\n  castellan agents settings host-7 --clear",
		Args:    cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.BoolVar(&s.all, "all", false, "all agents that have no settings of their own")
	f.StringSliceVar(&s.off, "sensor-off", nil, "sensors to switch off, by name; \"\" for none")
	f.StringSliceVar(&s.sensitive, "sensitive", nil, "files whose reading is to be told, as containers see them; * stands for any part of one name; \"\" for none")
	f.DurationVar(&s.window, "window", 0, "how long what was told of a container is only counted; 0 is the agent's default")
	f.BoolVar(&s.clear, "clear", false, "remove the settings")
	form := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if s.all == (len(args) == 1) {
			return usagef("name one agent, or say --all")
		}
		changed := f.Changed("sensor-off") || f.Changed("sensitive") || f.Changed("window")
		if s.clear && changed {
			return usagef("--clear removes all settings: nothing else can be said beside it")
		}
		api, err := g.dial(*o)
		if err != nil {
			return err
		}
		path := "/agents/settings"
		if !s.all {
			id, err := known(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			path = "/agents/" + url.PathEscape(id) + "/settings"
		}
		var now settingsAnswer
		if err := api.get(c.Context(), path, nil, &now); err != nil {
			return err
		}
		if s.clear || changed {
			want := s.over(now.Settings, f.Changed)
			now = settingsAnswer{} // what the answer leaves out is empty
			if err := api.do(c.Context(), http.MethodPut, path, want, &now); err != nil {
				return err
			}
		}
		return g.print(*form, now, func() error { return g.settings(now) })
	}
	return c
}

// known finds the agent that is meant among those that have reported.
func known(ctx context.Context, api *client, name string) (string, error) {
	var page agentPage
	if err := api.get(ctx, "/agents", nil, &page); err != nil {
		return "", err
	}
	a, err := findAgent(page.Agents, name)
	return a.ID, err
}

// over returns the settings with what the command line says.
func (s settingsFlags) over(now asset.AgentSettings, changed func(string) bool) asset.AgentSettings {
	if s.clear {
		return asset.AgentSettings{}
	}
	given := func(words []string) (kept []string) {
		for _, w := range words {
			if w != "" {
				kept = append(kept, w)
			}
		}
		return kept
	}
	if changed("sensor-off") {
		now.SensorsOff = given(s.off)
	}
	if changed("sensitive") {
		now.SensitivePaths = given(s.sensitive)
	}
	if changed("window") {
		now.Window = s.window
	}
	return now
}

// settingsLine says what an agent was told to do; "" when that is nothing.
func settingsLine(s asset.AgentSettings) string {
	var parts []string
	if len(s.SensorsOff) > 0 {
		parts = append(parts, "sensors off: "+strings.Join(s.SensorsOff, " "))
	}
	if len(s.SensitivePaths) > 0 {
		parts = append(parts, "sensitive: "+strings.Join(s.SensitivePaths, " "))
	}
	if s.Window != 0 {
		parts = append(parts, "window "+s.Window.String())
	}
	return strings.Join(parts, "; ")
}

func (g *globals) settings(s settingsAnswer) error {
	words := func(s asset.AgentSettings) []cell {
		window := "default"
		if s.Window != 0 {
			window = s.Window.String()
		}
		return []cell{text(orDefault(strings.Join(s.SensorsOff, " "), "none")), text(orDefault(strings.Join(s.SensitivePaths, " "), "none")), text(window)}
	}
	rows := [][]cell{append([]cell{text("set here")}, words(s.Settings)...), append([]cell{text("holds")}, words(s.Effective)...)}
	return g.table([]string{"", "SENSORS OFF", "SENSITIVE PATHS", "WINDOW"}, rows)
}
