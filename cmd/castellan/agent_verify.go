package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/adapter/notary"
	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/self"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	// verifyFolder is below the agent's data folder, verifySocket in it.
	verifyFolder = "verify"
	verifySocket = "signatures.sock"
	// verifyCommand is the name of the hidden command of the child.
	verifyCommand = "verify-image"
	// verifyMemory is what the child's heap aims to stay below, verifyWithin how long
	// it may take.
	verifyMemory = 128 << 20
	verifyWithin = 2 * time.Minute
	// agentEnvelopes bounds what an agent reads of the signatures and attestations
	// of one image: it holds them while it hands them to the child.
	agentEnvelopes = 8 << 20
)

// imageVerifier verifies images, each in a child process that reads what strangers
// wrote; only the registry, and AWS Signer, are asked from here.
type imageVerifier struct {
	program  *self.Program
	registry trust.Finder
	revoked  revokedByAWS
	log      *slog.Logger
}

// openImageVerifier returns what verifies images for the agent.
func (g *globals) openImageVerifier(log *slog.Logger) (*imageVerifier, error) {
	ecr := aws.NewECR(log.With("door", "aws"))
	registry, err := oci.NewRegistry(oci.Options{Credentials: ecr.Credentials, MaxEnvelopes: agentEnvelopes}, log.With("door", "oci"))
	if err != nil {
		return nil, err
	}
	program, err := self.New(self.Options{Folder: filepath.Join(g.dataDir, verifyFolder)}, log.With("door", "self"))
	if err != nil {
		return nil, errors.Join(err, registry.Close())
	}
	return &imageVerifier{program, registry, aws.NewRevocations(log.With("door", "aws")).Revoked, log}, nil
}

// VerifyImage is agent.Verifier.
func (v *imageVerifier) VerifyImage(ctx context.Context, w link.VerifyWish) ([]byte, error) {
	l, err := v.program.Listen(verifySocket)
	if err != nil {
		return nil, err
	}
	lending, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var lendErr error
	wg.Go(func() { lendErr = lendSignatures(lending, l, w, v.registry, v.revoked, v.log) })
	out, err := v.program.Run(ctx, self.Task{
		Args:   []string{"agent", verifyCommand, "--", v.program.Inside(verifySocket)},
		Output: link.MaxVerdict, Memory: verifyMemory, Within: verifyWithin,
	})
	stop()
	wg.Wait()
	switch {
	case err != nil || lendErr != nil:
		return nil, errors.Join(lendErr, err)
	case out.Code != exitDone:
		return nil, readScanError(out)
	}
	return out.Stdout, nil
}

// newAgentVerify is the child of VerifyImage.
func newAgentVerify(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    verifyCommand + " SOCKET",
		Short:  "Verify an image for the agent that started this",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := self.Bound(); err != nil {
				return err
			}
			b, err := verifyLent(c.Context(), args[0])
			if err == nil {
				_, err = g.out.Write(b)
			}
			return g.childEnds(err)
		},
	}
}

// verifyLent decides on the image whose signatures are lent at a socket.
func verifyLent(ctx context.Context, socket string) ([]byte, error) {
	lent := borrowSignatures(socket)
	defer lent.close()
	w, err := lent.wish(ctx)
	if err != nil {
		return nil, err
	}
	p, err := trust.Read(w.Policy, "policy", nil)
	if err != nil {
		return nil, err
	}
	open, err := openersAsking(p.Roots(), notary.Options{AWS: lent.revoked})
	if err != nil {
		return nil, err
	}
	// All that is there is opened, and told: another policy may ask for what this
	// one does not.
	d := trust.Decider{Policy: p, Finder: lent, Openers: open, Facts: true}
	image := trust.Image{Subject: signature.Subject{Repository: w.Repository, Digest: w.Digest}}
	v, err := d.Explain(ctx, image, time.Now())
	if err != nil {
		return nil, err
	}
	return fitting(v, func() (trust.Verdict, error) {
		d.Facts = false
		return d.Verify(ctx, image, time.Now())
	})
}

// fitting is a verdict as it is sent. One that is too large is sent without what
// other policies would need, and then as short says it, which looks no further than
// it must: what strangers attach to an image must not undo what its signers say.
func fitting(v trust.Verdict, short func() (trust.Verdict, error)) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && len(b) > link.MaxVerdict {
		v.Facts = nil
		b, err = json.Marshal(v)
	}
	if err == nil && len(b) > link.MaxVerdict {
		if v, err = short(); err == nil {
			b, err = json.Marshal(v)
		}
	}
	if err == nil && len(b) > link.MaxVerdict {
		err = fault.New(fault.Exhausted, "the verdict has %d bytes, and at most %d are taken", len(b), link.MaxVerdict).
			With("remove signatures that nobody needs from the repository")
	}
	return b, err
}

// checkTrust says whether signatures can be held against a policy's roots.
func checkTrust(p *trust.Policy) error {
	_, err := openers(p.Roots(), nil)
	return err
}
