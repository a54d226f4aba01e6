package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// streams are what a command reads and prints to.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// globals are the flags that every command has.
type globals struct {
	streams
	dataDir   string
	logLevel  string
	logFormat string
	colour    string
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	return report(s.err, c.CommandPath(), err)
}

// columns is how wide lines of help may be: as the terminal is, and 0, for no bound, where
// there is none.
func columns(out io.Writer) int {
	const least = 60 // names of flags take half of it
	fd, ok := terminal(out)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(fd)
	if err != nil {
		return 0
	}
	return max(width, least)
}

func newRoot(s streams) *cobra.Command {
	g := &globals{streams: s}
	root := &cobra.Command{
		Use:   "castellan",
		Short: "Guard containers on Amazon ECS from build to run",
		Long: `Castellan guards containers on Amazon ECS from build to run.

"castellan up" starts server and agent on this host; the console is then on
https://127.0.0.1:8600. The other commands ask a running server: on the
server's own host, as root, they need nothing more; elsewhere give --server and
a token.
` + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(wrongFlag)
	f := root.PersistentFlags()
	f.StringVar(&g.dataDir, "data-dir", env("CASTELLAN_DATA_DIR", defaultDataDir()), "folder that server and agent keep their data in (CASTELLAN_DATA_DIR)")
	f.StringVar(&g.logLevel, "log-level", "info", "least severe log line shown: debug, info, warn, error")
	f.StringVar(&g.logFormat, "log-format", "text", "form of log lines: text or json")
	f.StringVar(&g.colour, "color", "auto", "colour in tables: auto (on a terminal, unless NO_COLOR is set), always, never")
	root.AddGroup(&cobra.Group{ID: "build", Title: "Build"}, &cobra.Group{ID: "run", Title: "Run"}, &cobra.Group{ID: "ask", Title: "Ask"}, &cobra.Group{ID: "manage", Title: "Manage"})
	for group, cmds := range map[string][]*cobra.Command{
		"build":  {newScan(g), newTrust(g), newAdmit(g), newHarden(g)},
		"run":    {newUp(g), newServer(g), newAgent(g), newWatch(g), newDetect(g), newRespond(g)},
		"ask":    {newStatus(g), newWorkloads(g), newTop(g), newEvents(g), newImages(g), newVulnerabilities(g), newSecrets(g), newFaults(g), newMalware(g), newRegistries(g), newAgents(g)},
		"manage": {newAcceptances(g), newOwners(g), newNotify(g), newUsers(g), newTokens(g), newAudit(g)},
	} {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.AddCommand(newVersion(g))
	wrongUsage(root)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns(s.out))))
	return root
}

// logger returns the program's log, on standard error.
func (g *globals) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
		return nil, usagef("--log-level %q: want debug, info, warn or error", g.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch g.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(g.err, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(g.err, o)), nil
	}
	return nil, usagef("--log-format %q: want text or json", g.logFormat)
}

// env returns the environment's value of name, or what stands in for it.
func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// defaultDataDir is where a system's service keeps its data, and for anybody
// but root where a user's program does.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/castellan"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "castellan")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "castellan")
	}
	return filepath.Join(home, ".local", "share", "castellan")
}

// list joins words for a help text.
func list[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
