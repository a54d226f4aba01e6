package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
)

func (g *globals) respondSnapshot(o *respondOptions) *cobra.Command {
	var save string
	c := g.respondDeed(o, response.Snapshot, "Keep what a workload is and does, for whoever looks into it", `Keep what a workload is and does, for whoever looks into it: its processes with
open files, memory maps and the names of their environment variables, its
connections, the files that it has changed with their digests, and with --packets
for a while what it sends and receives. It changes nothing; freeze the workload
before (castellan respond quarantine --freeze), so that nothing changes meanwhile.
The archive is kept on the host and on the server.`)
	f := c.Flags()
	f.DurationVar(&o.deed.Packets, "packets", 0, "capture packets for so long, up to 1m")
	f.BoolVar(&o.deed.Values, "values", false, "keep the values of environment variables, too, which are secrets")
	f.BoolVar(&o.deed.Files, "files", false, "keep the content of small changed files and of programs, too")
	f.StringVar(&save, "save", "", "write the archive to this `file`, too")
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.deed.Packets < 0 || o.deed.Packets > response.MaxPackets || o.deed.Packets%time.Second != 0 {
			return usagef("--packets %s: want whole seconds, up to %s", o.deed.Packets, response.MaxPackets)
		}
		if save != "" && o.deed.DryRun {
			return usagef("--save: a dry run takes no snapshot")
		}
		if save != "" {
			if _, err := os.Stat(save); err == nil { // before it is taken, not after
				return fault.New(fault.Conflict, "%s is there already", save).With("name another file with --save")
			}
		}
		if err := run(c, args); err != nil || save == "" {
			return err
		}
		return g.saveSnapshot(c.Context(), o, save)
	}
	return c
}

// saveSnapshot writes the archive that was just taken to a file.
func (g *globals) saveSnapshot(ctx context.Context, o *respondOptions, file string) error {
	k := o.last.Answer.Kept
	if k == nil {
		return errors.New("nobody says where the snapshot is")
	}
	if o.host {
		from, err := os.Open(k.File)
		if err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		defer from.Close()
		return g.writeSnapshot(file, k.Digest, func(w io.Writer) error { _, err := io.Copy(w, from); return err })
	}
	if !k.Sent {
		return fault.New(fault.Unavailable, "the server does not have the snapshot").With("copy it from its host: " + k.File)
	}
	api, err := g.dial(o.ask)
	if err != nil {
		return err
	}
	return g.download(ctx, api, respond.Snapshot{ID: o.last.Deed.ID, Size: k.Size, Digest: k.Digest}, file)
}

// downloadPart is how much of a snapshot one answer has: an answer has half a minute.
const downloadPart = 8 << 20

// download writes a snapshot of the server to a file, part by part.
func (g *globals) download(ctx context.Context, api *client, x respond.Snapshot, file string) error {
	return g.writeSnapshot(file, x.Digest, func(w io.Writer) error {
		for at := int64(0); at < x.Size; at += downloadPart {
			most := min(downloadPart, x.Size-at)
			resp, err := api.sendRange(ctx, "/respond/snapshots/"+url.PathEscape(x.ID), at, most)
			if err != nil {
				return err
			}
			n, err := io.Copy(w, io.LimitReader(resp.Body, most))
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				return fmt.Errorf("read snapshot: %w", err)
			}
			if n != most {
				return fmt.Errorf("read snapshot: %d bytes of %d", n, most)
			}
		}
		return nil
	})
}

// writeSnapshot writes a new file, which is there only if it has that digest.
func (g *globals) writeSnapshot(file, digest string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault.New(fault.Conflict, "%s is there already", file).With("name another file")
	}
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	sum := sha256.New()
	err = errors.Join(fill(io.MultiWriter(f, sum)), f.Close())
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); err == nil && got != digest {
		err = fault.New(fault.Corrupt, "the snapshot has digest %s, not %s", got, digest).With("try again")
	}
	if err != nil {
		return errors.Join(err, os.Remove(file))
	}
	fmt.Fprintf(g.err, "written to %s\nhold it against its digest later: castellan respond snapshots verify %[1]s --digest %s\n", printable(file), digest)
	return nil
}

// respondSnapshots are the commands about snapshots that a server has.
func (g *globals) respondSnapshots() *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "snapshots",
		Short: "List, download, verify and delete the snapshots that the server has",
		Long: `List the snapshots that the server has, the newest first. The oldest go by
themselves: after 90 days, or when there are 200 or 8 GiB of them. Those in a
bucket (castellan server --snapshots-s3) stay there.
` + exitHelp,
		Args: cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := g.dial(o)
		if err != nil {
			return err
		}
		all, err := snapshots(c.Context(), api)
		if err != nil {
			return err
		}
		return g.print(*f, map[string]any{"snapshots": all}, func() error { return g.snapshotTable(all) })
	}
	download := &cobra.Command{
		Use:   "download ID [FILE]",
		Short: "Write a snapshot to a file",
		Long:  "Write a snapshot to a new file, snapshot-ID.tar.gz unless named.\n" + exitHelp,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(o)
			if err != nil {
				return err
			}
			x, err := findSnapshot(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			file := "snapshot-" + filepath.Base(x.ID) + ".tar.gz"
			if len(args) > 1 {
				file = args[1]
			}
			return g.download(c.Context(), api, x, file)
		},
	}
	remove := &cobra.Command{
		Use:   "delete ID",
		Short: "Delete a snapshot from the server",
		Long:  "Delete a snapshot from the server. It stays on its host until it is too old there.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.dial(o)
			if err != nil {
				return err
			}
			x, err := findSnapshot(c.Context(), api, args[0])
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), http.MethodDelete, "/respond/snapshots/"+url.PathEscape(x.ID), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "snapshot %s is deleted\n", printable(x.ID))
			return err
		},
	}
	for _, x := range []*cobra.Command{c, download, remove} {
		o.flags(x)
	}
	c.AddCommand(download, remove, g.respondVerify())
	return c
}

func snapshots(ctx context.Context, api *client) ([]respond.Snapshot, error) {
	var page struct {
		Snapshots []respond.Snapshot `json:"snapshots"`
	}
	err := api.get(ctx, "/respond/snapshots", nil, &page)
	return page.Snapshots, err
}

// findSnapshot finds a snapshot by its id or the beginning of it.
func findSnapshot(ctx context.Context, api *client, id string) (respond.Snapshot, error) {
	all, err := snapshots(ctx, api)
	if err != nil {
		return respond.Snapshot{}, err
	}
	var found []respond.Snapshot
	for _, x := range all {
		if len(id) > 0 && len(id) <= len(x.ID) && x.ID[:len(id)] == id {
			found = append(found, x)
		}
	}
	switch len(found) {
	case 0:
		return respond.Snapshot{}, fault.New(fault.NotFound, "this server has no snapshot %q", id).With("castellan respond snapshots lists those it has")
	case 1:
		return found[0], nil
	}
	return respond.Snapshot{}, fault.New(fault.Invalid, "%d snapshots begin with %q", len(found), id).With("name more of its id")
}

func (g *globals) snapshotTable(all []respond.Snapshot) error {
	if len(all) == 0 {
		fmt.Fprintln(g.err, "the server has no snapshot; castellan respond snapshot WORKLOAD takes one")
		return nil
	}
	var rows [][]cell
	for i := range all {
		x := &all[i]
		rows = append(rows, []cell{
			text(x.ID), text(x.Taken.Local().Format(time.DateTime)), text(asset.ShortID(x.Workload)), text(string(x.Group)),
			text(size(uint64(max(x.Size, 0)))), text(x.By), signedCell(x), text(whereSnapshot(x)), text(x.Reason),
		})
	}
	if err := g.table([]string{"SNAPSHOT", "TAKEN", "ID", "GROUP", "SIZE", "BY", "SIGNED", "BUCKET", "REASON"}, rows); err != nil {
		return err
	}
	for i := range all {
		if x := &all[i]; signedCell(x).text == "wrong" {
			fmt.Fprintf(g.err, "snapshot %s is not what its signature says: %s\n", printable(x.ID), printable(x.Signed))
		}
	}
	for i := range all {
		if u := &all[i].Upload; u.Error != "" {
			fmt.Fprintf(g.err, "snapshot %s is not in the bucket: %s\n  remedy: %s\n", printable(all[i].ID), printable(u.Error), printable(u.Remedy))
			break // the others mostly lack it for the same reason
		}
	}
	return nil
}

// signedCell says whether a snapshot is signed by its agent.
func signedCell(x *respond.Snapshot) cell {
	switch x.Signed {
	case "":
		return text("-")
	case respond.SignedYes:
		return cell{x.Signed, good}
	case respond.SignedNo:
		return cell{x.Signed, warn}
	}
	return cell{"wrong", bad}
}

// whereSnapshot says whether a snapshot is in the server's bucket.
func whereSnapshot(x *respond.Snapshot) string {
	switch u := &x.Upload; {
	case u.Where != "":
		return u.Where
	case u.Error != "":
		return fmt.Sprintf("failed %d times", u.Tries)
	}
	return "-"
}
