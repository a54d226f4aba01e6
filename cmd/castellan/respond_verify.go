package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/kernel/camera"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// respondVerify holds the archive of a snapshot against its manifest, without a server.
func (g *globals) respondVerify() *cobra.Command {
	var digest, authority string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say whether a snapshot is as it was taken",
		Long: `Hold each file of a snapshot against its manifest, and with --digest the archive
itself against the digest that the audit log, the server's list and the bucket
have of it: who changes an archive can change its manifest, too. With
--ca-fingerprint it must be signed by an agent of the server with that authority,
which proves that this agent has taken it as it is. It unpacks nothing and asks no
server.
` + exitHelpJudged,
		Example: `  castellan respond snapshots verify case-42.tar.gz --digest sha256:9f86d081…
  castellan respond snapshots verify case-42.tar.gz --ca-fingerprint sha256:2c26b46b…`,
		Args: cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().StringVar(&digest, "digest", "", "`sha256:HEX` that the archive must have")
	c.Flags().StringVar(&authority, "ca-fingerprint", "", "fingerprint of the authority of the server, `sha256:HEX`, whose agent must have signed it")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if authority != "" {
			if _, err := link.TLS("", authority); err != nil { // is it a fingerprint at all?
				return err
			}
		}
		file, err := os.Open(args[0])
		if err != nil {
			return fault.New(fault.NotFound, "read snapshot: %w", err)
		}
		defer file.Close()
		v, err := camera.Verify(file)
		if err != nil {
			return err
		}
		if digest != "" && digest != v.Digest {
			v.Wrong = append([]string{fmt.Sprintf("the archive has digest %s, not %s", v.Digest, digest)}, v.Wrong...)
		}
		if authority != "" {
			switch {
			case v.Signature == nil:
				v.Wrong = append(v.Wrong, "nobody has signed it")
			case !v.Signature.Under(authority):
				v.Wrong = append(v.Wrong, fmt.Sprintf("it is signed under authority %s, not %s", v.Signature.Authority, authority))
			}
		}
		if err := g.print(*f, v, func() error { g.verified(v, authority != ""); return nil }); err != nil {
			return err
		}
		if len(v.Wrong) > 0 {
			return errViolated
		}
		return nil
	}
	return c
}

// verified says what an archive is; trusted, that it is signed under the authority that
// was named unless something is wrong.
func (g *globals) verified(v *camera.Verified, trusted bool) {
	m := &v.Manifest
	fmt.Fprintf(g.out, "snapshot %s of %s %s, taken %s by %s\n", printable(m.Deed), printable(asset.ShortID(m.Workload.ID)), printable(string(m.Workload.Group)),
		m.Began.Local().Format(time.DateTime), printable(m.By))
	fmt.Fprintf(g.out, "  %d files, %s, %s\n", len(m.Files), size(uint64(v.Size)), v.Digest)
	for _, l := range m.Lacks {
		fmt.Fprintf(g.out, "  lacks: %s\n", printable(l))
	}
	for _, w := range v.Wrong {
		fmt.Fprintf(g.out, "  %s: %s\n", g.paint("wrong", bad), printable(w))
	}
	if len(v.Wrong) == 0 {
		fmt.Fprintf(g.out, "  %s: each file is as the manifest says\n", g.paint("whole", good))
	}
	switch s := v.Signature; {
	case s == nil:
		fmt.Fprintf(g.out, "  %s: its agent had joined no server, or is older than signatures\n", g.paint("not signed", warn))
	case len(v.Wrong) > 0: // said above, or of no use
	case trusted:
		fmt.Fprintf(g.out, "  %s: agent %s has taken it\n", g.paint("signed", good), printable(s.Agent))
	default:
		fmt.Fprintf(g.out, "  %s by agent %s, if you trust authority %s; hold it against your server's: --ca-fingerprint\n", g.paint("signed", good), printable(s.Agent), printable(s.Authority))
	}
}
