package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/trust"
)

// envKeyPassword names the environment variable with the password of a signing
// key. There is no flag for it: a command line is there for everybody to read.
const envKeyPassword = "CASTELLAN_KEY_PASSWORD"

// keyFlags are where keys are and how they are opened.
type keyFlags struct {
	dir, passwordFile, identity string
}

func (k *keyFlags) add(g *globals, c *cobra.Command) {
	c.PersistentFlags().StringVar(&k.dir, "keys", env("CASTELLAN_KEYS", ""), "folder of keys (CASTELLAN_KEYS; else the folder keys in --data-dir)")
	c.PersistentFlags().StringVar(&k.passwordFile, "password-file", "", "file with the key's password (else "+envKeyPassword+", else it is asked for)")
	c.PersistentFlags().StringVar(&k.identity, "age-identity", "", "file with an identity of age (AGE-SECRET-KEY-1…), for a key that is sealed for its recipient")
}

// ring is the folder of keys that is meant.
func (k *keyFlags) ring(g *globals) *trust.KeyRing {
	if k.dir != "" {
		return trust.OpenKeyRing(k.dir)
	}
	return trust.OpenKeyRing(filepath.Join(g.dataDir, "keys"))
}

// password is where a key's password comes from; fresh for a new one, which is
// asked for twice.
func (k *keyFlags) password(g *globals, fresh bool) trust.KeyPassword {
	if k.identity != "" {
		if k.passwordFile != "" {
			return func() ([]byte, error) {
				return nil, usagef("--age-identity or --password-file: a key is opened in one way")
			}
		}
		return trust.KeyAgeIdentityFile(k.identity)
	}
	if k.passwordFile != "" {
		return trust.KeyPasswordFile(k.passwordFile)
	}
	if _, ok := os.LookupEnv(envKeyPassword); ok {
		return trust.KeyPasswordVariable(envKeyPassword)
	}
	return func() ([]byte, error) { return g.askKeyPassword(fresh) }
}

// askKeyPassword asks whoever sits at the terminal.
func (g *globals) askKeyPassword(fresh bool) ([]byte, error) {
	fd, ok := terminal(g.in)
	if !ok {
		return nil, fault.New(fault.Invalid, "the key needs a password, and there is no terminal to ask for it").
			With("say --password-file FILE, or set " + envKeyPassword + "; for a key that age sealed for a recipient, --age-identity FILE")
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(g.err, prompt)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(g.err)
		if err != nil {
			return nil, fmt.Errorf("read password: %w", err)
		}
		return b, nil
	}
	if !fresh {
		return ask("password of the key: ")
	}
	first, err := ask(fmt.Sprintf("password for the new key (%d characters or more): ", trust.LeastKeyPassword))
	if err != nil {
		return nil, err
	}
	again, err := ask("the same again: ")
	if err == nil && !bytes.Equal(first, again) {
		err = usagef("the two passwords differ")
	}
	clear(again)
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

func newTrustKey(g *globals) *cobra.Command {
	var k keyFlags
	c := &cobra.Command{
		Use:   "key",
		Short: "Make, replace and list signing keys, and tell of lost ones",
		Long: `Make, replace and list signing keys, and tell of lost ones. Keys are kept in a
folder, sealed with a password in the form of cosign's key files, or by age with a
password or for recipients, and only their owner may read them. What a trust policy
must say of them is printed: whoever verifies knows of keys only by that.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	k.add(g, c)
	c.AddCommand(g.keyGenerate(&k), g.keyRotate(&k), g.keyList(&k), g.keyLost(&k), g.keyCertificate(&k), g.keyRequest(&k))
	return c
}

// sealFlags say how a new key is sealed.
type sealFlags struct {
	format     string
	recipients []string
}

func (s *sealFlags) add(c *cobra.Command, otherwise string) {
	c.Flags().StringVar(&s.format, "format", "", "form of the key's file: "+list(trust.KeyFormats())+" (else "+otherwise+")")
	c.Flags().StringArrayVar(&s.recipients, "recipient", nil, "with --format age: who may open it instead of whoever has the password, as age-keygen prints it (age1…); may be repeated")
}

// options are how a new key is made.
func (s *sealFlags) options(algorithm string, password trust.KeyPassword) trust.KeyOptions {
	return trust.KeyOptions{Algorithm: trust.KeyAlgorithm(algorithm), Format: trust.KeyFormat(s.format), Recipients: s.recipients, Password: password}
}

// algorithmFlag gives a command its --algorithm.
func algorithmFlag(c *cobra.Command, to *string, otherwise string) {
	c.Flags().StringVar(to, "algorithm", "", "kind of key: "+list(trust.KeyAlgorithms())+" (else "+otherwise+"; the Notary Project knows no ed25519)")
}

func (g *globals) keyGenerate(k *keyFlags) *cobra.Command {
	var algorithm string
	var seal sealFlags
	c := &cobra.Command{
		Use:     "generate NAME",
		Short:   "Make a key",
		Long:    "Make a key: NAME-1.key, which only you may read, and NAME-1.pub for whoever verifies.\nNothing is overwritten.\n" + exitHelp,
		Example: "  castellan trust key generate build\n  castellan trust key generate release --algorithm rsa-3072 --password-file /run/secrets/key\n  castellan trust key generate build --format age --recipient age1…",
		Args:    cobra.ExactArgs(1),
	}
	algorithmFlag(c, &algorithm, string(trust.KeyAlgorithms()[0]))
	seal.add(c, string(trust.KeyFormats()[0]))
	c.RunE = func(_ *cobra.Command, args []string) error {
		ring := k.ring(g)
		made, err := ring.Generate(args[0], seal.options(algorithm, k.password(g, true)), time.Now())
		if err != nil {
			return err
		}
		return g.keyMade(ring, made, made)
	}
	return c
}

func (g *globals) keyRotate(k *keyFlags) *cobra.Command {
	var algorithm, overlap string
	var seal sealFlags
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a key that replaces the active one",
		Long: `Make a key that replaces the active one. What the old one signed stays good until
the overlap ends, and after that only where a time stamp or a transparency log
proves that it was signed before: sign what is still in use anew in that time.
` + exitHelp,
		Example: "  castellan trust key rotate build --overlap 60d",
		Args:    cobra.ExactArgs(1),
	}
	algorithmFlag(c, &algorithm, "that of the old one")
	seal.add(c, "that of the old one, for the same recipients")
	c.Flags().StringVar(&overlap, "overlap", "30d", "how long what the old key signed stays good")
	c.RunE = func(_ *cobra.Command, args []string) error {
		lasts, err := query.Duration(overlap)
		if err != nil {
			return usagef("--overlap %q: %w", overlap, err)
		}
		ring := k.ring(g)
		made, old, err := ring.Rotate(args[0], seal.options(algorithm, k.password(g, true)), lasts, time.Now())
		if err != nil {
			return err
		}
		if old == nil {
			return g.keyMade(ring, made, made)
		}
		return g.keyMade(ring, made, *old, made)
	}
	return c
}

// keyMade tells of a new key, and what the trust policy must say.
func (g *globals) keyMade(ring *trust.KeyRing, made trust.SigningKey, say ...trust.SigningKey) error {
	_, err := fmt.Fprintf(g.out, "key %s (%s)\n  private      %s\n  public       %s\n  fingerprint  %s\n",
		made.ID(), made.Algorithm, ring.PrivateFile(made), ring.PublicFile(made), made.Fingerprint)
	return errors.Join(err, g.keyPolicy(ring, say...))
}

// keyPolicy prints what the trust policy must say of keys.
func (g *globals) keyPolicy(ring *trust.KeyRing, say ...trust.SigningKey) error {
	text := "in the trust policy:\n  roots:\n    keys:\n"
	for _, k := range say {
		text += "      " + k.Policy(ring.PublicFile(k)) + "\n"
	}
	_, err := fmt.Fprint(g.out, text)
	return err
}

// keyLine is a key as a listing shows it.
type keyLine struct {
	trust.SigningKey
	ID     string `json:"id"`
	Public string `json:"publicKeyFile"`
}

func (g *globals) keyList(k *keyFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List keys and what may be done with them",
		Long:  "List keys and what may be done with them. No password is needed.\n" + exitHelp,
		Args:  cobra.NoArgs,
	}
	f := outputFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		ring, now := k.ring(g), time.Now()
		keys, err := ring.List(now)
		if err != nil {
			return err
		}
		lines := make([]keyLine, 0, len(keys))
		for _, k := range keys {
			lines = append(lines, keyLine{k, k.ID(), ring.PublicFile(k)})
		}
		return g.print(*f, map[string]any{"keys": lines}, func() error { return g.keyTable(lines, now) })
	}
	return c
}

func (g *globals) keyTable(lines []keyLine, now time.Time) error {
	rows := make([][]cell, 0, len(lines))
	for _, k := range lines {
		state, what := cell{string(k.State), plain}, ""
		switch k.State {
		case trust.KeyActive:
			state.tone = good
		case trust.KeyRetiring:
			state.tone, what = warn, "good for another "+span(k.Until.Sub(now))
		case trust.KeyRetired:
			state.tone, what = faint, "since "+k.Until.Format(time.DateOnly)
		case trust.KeyLost:
			state.tone, what = bad, "since "+k.Since.Format(time.DateOnly)
		}
		rows = append(rows, []cell{text(k.ID), state, text(what), text(string(k.Algorithm)), text(k.Sealing()), text(k.Created.Format(time.DateOnly)), text(k.Fingerprint)})
	}
	return g.table([]string{"KEY", "STATE", "", "ALGORITHM", "OPENED BY", "MADE", "FINGERPRINT"}, rows)
}

func (g *globals) keyLost(k *keyFlags) *cobra.Command {
	var since string
	c := &cobra.Command{
		Use:   "lost KEY",
		Short: "Tell that somebody else may have had a key",
		Long: `Tell that somebody else may have had a key: by its id, or by its name the active
one. It signs no more, and what a trust policy must say is printed: what it signed
from that date on is refused then, and so is what nothing proves to be older. An
earlier date can be told later, a later one cannot.
` + exitHelp,
		Example: "  castellan trust key lost build-1 --since 2026-11-20\n  castellan trust key rotate build",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&since, "since", "", "from when on, as 2026-11-20 or 2026-11-20T08:00:00Z; always for since it was made (required)")
	c.RunE = func(_ *cobra.Command, args []string) error {
		now := time.Now()
		from, err := lostSince(since)
		if err != nil {
			return err
		}
		ring := k.ring(g)
		lost, err := ring.Lose(args[0], from, now)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(g.out, "key %s is lost since %s.\n", lost.ID(), lost.Since.Format(time.RFC3339))
		return errors.Join(err, g.keyPolicy(ring, lost))
	}
	return c
}

// lostSince reads from when on a key is lost; the zero time is before it was made.
func lostSince(text string) (time.Time, error) {
	switch strings.TrimSpace(text) {
	case "":
		return time.Time{}, usagef("say with --since from when on somebody else may have had the key, or --since always")
	case "always":
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--since %q: want a date as 2026-11-20, 2026-11-20T08:00:00Z, or always", text)
}
