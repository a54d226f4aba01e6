package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/kernel/camera"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// respondVerify holds the archive of a snapshot against its manifest, without a server.
func (g *globals) respondVerify() *cobra.Command {
	var digest string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say whether a snapshot is as it was taken",
		Long: `Hold each file of a snapshot against its manifest, and with --digest the archive
itself against the digest that the audit log, the server's list and the bucket
have of it: who changes an archive can change its manifest, too. It unpacks
nothing and asks no server.
` + exitHelpJudged,
		Example: `  castellan respond snapshots verify case-42.tar.gz --digest sha256:9f86d081…`,
		Args:    cobra.ExactArgs(1),
	}
	f := outputFlag(c)
	c.Flags().StringVar(&digest, "digest", "", "`sha256:HEX` that the archive must have")
	c.RunE = func(_ *cobra.Command, args []string) error {
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
		if err := g.print(*f, v, func() error { g.verified(v); return nil }); err != nil {
			return err
		}
		if len(v.Wrong) > 0 {
			return errViolated
		}
		return nil
	}
	return c
}

func (g *globals) verified(v *camera.Verified) {
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
}
