package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/fault"
)

// joinToken is the environment's name for an invitation's token.
const joinToken = "CASTELLAN_JOIN_TOKEN"

func newAgentJoin(g *globals) *cobra.Command {
	var r remote
	var again bool
	c := &cobra.Command{
		Use:   "join",
		Short: "Join a server with an invitation, once",
		Long: `Join a server: exchange the token of an invitation for a certificate of this
agent's own. The certificate, its key and the server's address are kept in the
data folder; castellan agent then needs no more, and renews the certificate by
itself.

  castellan agents invite      (on the server) prints the line to type here.

The fingerprint is how this agent knows the server: without it, this system's
own authorities must vouch for the server's certificate.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if r.server == "" {
				return usagef("no server: say --server https://host:8600")
			}
			if g.dataDir == "" {
				return usagef("no data folder: say --data-dir or set CASTELLAN_DATA_DIR")
			}
			token, err := readToken(r.tokenFile, joinToken)
			if err != nil {
				return err
			}
			joined, err := agent.Join(c.Context(), g.dataDir, agent.JoinOptions{
				Server: r.server, Fingerprint: r.fingerprint, Token: token, Version: version(), Again: again,
			})
			if err != nil {
				return explainJoin(err, r)
			}
			_, err = fmt.Fprintf(g.out, "Joined %s as agent %s.\nStart it: castellan agent\n", printable(joined.Server()), joined.AgentID())
			return err
		},
	}
	r.flags(c, "address of the server, https://host:port", "file that holds the invitation's token", joinToken)
	c.Flags().BoolVar(&again, "again", false, "forget the server that this agent has joined")
	return c
}

// explainJoin says what is most often missing when a server is not trusted.
func explainJoin(err error, r remote) error {
	switch {
	case fault.Is(err, fault.Invalid):
		return usageError{err}
	case fault.Is(err, fault.Unavailable) && r.fingerprint == "":
		return fault.New(fault.Unavailable, "%w", err).
			With("give --ca-fingerprint as the server printed it, and check its address and the network between")
	}
	return err
}
