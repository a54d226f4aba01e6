package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/adapter/oci"
	"github.com/castellan-security/castellan/internal/adapter/sigstore"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust"
)

const (
	trustImages  = 1000
	trustFlights = 4
	trustRounds  = 200
	trustWarm    = 20_000
	trustRuns    = 15 // of a whole command
	trustTrip    = 20 * time.Millisecond
)

// signingPolicy is by what the images must be signed.
const signingPolicy = `{"version": 1, "roots": {"keys": {"build": "bench.pub"}}, "signers": {"build": {"key": "build"}}, "images": [{"match": "**", "require": [{"signers": ["build"]}]}]}`

// signing is a registry of signed images, and what verifies them.
type signing struct {
	host     string
	asked    atomic.Int64
	trip     atomic.Int64 // of an answer, in nanoseconds
	server   *http.Server
	key      *ecdsa.PrivateKey
	pub      string // file
	policy   *trust.Policy
	openers  map[signature.Kind]trust.Opener
	subjects []signature.Subject
}

// benchTrust times signing and verifying, in this process and as commands.
func benchTrust(ctx context.Context, o options) (rows []row, err error) {
	s, err := openSigning(o.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.server.Close()) }()
	if err := s.push(ctx); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context) ([]row, error){s.signAll, s.warm, s.cold, s.far, s.verifyAll} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	more, err := s.commands(ctx, o)
	return append(rows, more...), err
}

func openSigning(dir string) (*signing, error) {
	s := &signing{}
	hub := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	s.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		time.Sleep(time.Duration(s.trip.Load()))
		hub.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.host = l.Addr().String()
	go func() { _ = s.server.Serve(l) }() // ends when it is closed
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, err
	}
	s.pub = filepath.Join(dir, "bench.pub")
	if err := os.WriteFile(s.pub, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	if s.policy, err = trust.Read([]byte(signingPolicy), "bench", trust.Folder(dir)); err != nil {
		return nil, err
	}
	door, err := sigstore.New(s.policy.Roots(), sigstore.Options{})
	s.openers = map[signature.Kind]trust.Opener{signature.Sigstore: door}
	return s, err
}

// push puts tiny images into the registry.
func (s *signing) push(ctx context.Context) error {
	for i := range trustImages {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Author: fmt.Sprint(i)})
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(s.name(i), name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func (s *signing) name(i int) string { return fmt.Sprintf("%s/shop/app-%d:1", s.host, i) }

func (s *signing) door() (*oci.Registry, error) {
	return oci.NewRegistry(oci.Options{}, slog.New(slog.DiscardHandler))
}

// all does something with every image, several at once, and returns how long it
// took.
func (s *signing) all(ctx context.Context, do func(context.Context, int) error) (time.Duration, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(trustFlights)
	begun := time.Now()
	for i := range trustImages {
		group.Go(func() error { return do(ctx, i) })
	}
	err := group.Wait()
	return time.Since(begun), err
}

// signAll signs all images: resolved, signed, attached.
func (s *signing) signAll(ctx context.Context) ([]row, error) {
	r, err := s.door()
	if err != nil {
		return nil, err
	}
	by, err := sigstore.NewSigner(sigstore.SignerOptions{Key: s.key})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	s.subjects = make([]signature.Subject, trustImages)
	took := make([]float64, trustImages)
	whole, err := s.all(ctx, func(ctx context.Context, i int) error {
		begun := time.Now()
		sub, err := r.Resolve(ctx, s.name(i))
		if err != nil {
			return err
		}
		e, err := by.Sign(ctx, sub, nil)
		if err == nil {
			_, err = r.Attach(ctx, sub, e)
		}
		s.subjects[i], took[i] = sub, milliseconds(time.Since(begun))
		return err
	})
	slices.Sort(took)
	return []row{{fmt.Sprintf("%d images signed, %d in flight", trustImages, trustFlights), fmt.Sprintf("%.2f s; one %s", whole.Seconds(), shares(took)), ""}}, errors.Join(err, r.Close())
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// shares are the median and the 99th of a hundred, of what is sorted.
func shares(took []float64) string {
	return fmt.Sprintf("%.3g ms, p99 %.3g ms", took[len(took)/2], took[len(took)*99/100])
}

// verify decides on one image, which must be allowed.
func (s *signing) verify(ctx context.Context, r *oci.Registry, c *trust.Cache, i int) error {
	sub, err := r.Resolve(ctx, s.name(i))
	if err != nil {
		return err
	}
	return s.decide(ctx, r, c, sub)
}

func (s *signing) decide(ctx context.Context, r *oci.Registry, c *trust.Cache, sub signature.Subject) error {
	d := trust.Decider{Policy: s.policy, Finder: r, Openers: s.openers, Cache: c}
	v, err := d.Verify(ctx, trust.Image{Subject: sub}, time.Now())
	if err == nil && !v.Allowed {
		err = fmt.Errorf("%s was denied: %s", sub.Digest, v.Reason)
	}
	return err
}

// warm asks again what is remembered.
func (s *signing) warm(ctx context.Context) ([]row, error) {
	r, err := s.door()
	if err != nil {
		return nil, err
	}
	c := trust.NewCache(0)
	took := make([]float64, trustWarm)
	for i := range took {
		begun := time.Now()
		if err := s.decide(ctx, r, c, s.subjects[0]); err != nil {
			return nil, errors.Join(err, r.Close())
		}
		took[i] = milliseconds(time.Since(begun))
	}
	slices.Sort(took)
	return []row{{"a verdict that is remembered", shares(took), "p99 ≤ 0.1 ms"}}, r.Close()
}

// once verifies one image as a new process does: nothing is known.
func (s *signing) once(ctx context.Context, i int) (float64, error) {
	begun := time.Now()
	r, err := s.door()
	if err != nil {
		return 0, err
	}
	err = s.verify(ctx, r, nil, i)
	took := milliseconds(time.Since(begun))
	return took, errors.Join(err, r.Close())
}

func (s *signing) many(ctx context.Context, what, aim string, rounds int) ([]row, error) {
	took := make([]float64, rounds)
	asked := s.asked.Load()
	for i := range took {
		var err error
		if took[i], err = s.once(ctx, i); err != nil {
			return nil, err
		}
	}
	asked = s.asked.Load() - asked
	slices.Sort(took)
	return []row{{what, fmt.Sprintf("%s, %.1f requests", shares(took), float64(asked)/float64(rounds)), aim}}, nil
}

// cold verifies from the tag on, with a local registry.
func (s *signing) cold(ctx context.Context) ([]row, error) {
	return s.many(ctx, "one image verified, nothing known, local registry", "p99 ≤ 5 ms", trustRounds)
}

// far is cold with a registry at some distance.
func (s *signing) far(ctx context.Context) ([]row, error) {
	s.trip.Store(int64(trustTrip))
	defer s.trip.Store(0)
	return s.many(ctx, fmt.Sprintf("the same, %s to each answer", trustTrip), "", trustRounds/4)
}

// verifyAll verifies all images from their tags on.
func (s *signing) verifyAll(ctx context.Context) ([]row, error) {
	r, err := s.door()
	if err != nil {
		return nil, err
	}
	asked := s.asked.Load()
	whole, err := s.all(ctx, func(ctx context.Context, i int) error { return s.verify(ctx, r, nil, i) })
	figure := fmt.Sprintf("%.2f s, %.1f requests each", whole.Seconds(), float64(s.asked.Load()-asked)/trustImages)
	return []row{{fmt.Sprintf("%d images verified, %d in flight", trustImages, trustFlights), figure, ""}}, errors.Join(err, r.Close())
}

// commands times whole commands: this program's, and cosign's if it is there.
func (s *signing) commands(ctx context.Context, o options) ([]row, error) {
	rows, err := s.command(ctx, "castellan trust verify, the command", o.program, "trust", "verify", "--key", s.pub, s.name(0))
	if err != nil || o.peers == "" {
		return rows, err
	}
	cosign := filepath.Join(o.peers, "cosign")
	if _, err := os.Stat(cosign); err != nil {
		return rows, nil // not among the peers
	}
	theirs, err := s.command(ctx, "cosign verify, the command", cosign, "verify", "--key", s.pub, "--insecure-ignore-tlog", "--private-infrastructure", "--allow-http-registry", s.name(0))
	return append(rows, theirs...), err
}

func (s *signing) command(ctx context.Context, what, program string, args ...string) ([]row, error) {
	took := make([]float64, trustRuns)
	asked := s.asked.Load()
	for i := range took {
		begun := time.Now()
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", what, err, out)
		}
		took[i] = milliseconds(time.Since(begun))
	}
	asked = s.asked.Load() - asked
	slices.Sort(took)
	return []row{{what, fmt.Sprintf("%.0f ms (%.0f to %.0f), %.1f requests", took[len(took)/2], took[0], took[len(took)-1], float64(asked)/trustRuns), ""}}, nil
}
