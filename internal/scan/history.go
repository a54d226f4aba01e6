package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// History is an opened repository, as a door hands it over.
type History interface {
	// Each hands over every content that any commit ever had, each once at each
	// path, the oldest first, and what commits and tags say.
	Each(ctx context.Context, take func(inventory.Blob, io.Reader) error) error
}

const (
	// maxBlob is how much of one content is looked at: what is larger is data that
	// should not be in a repository.
	maxBlob = 64 << 20
	// maxHistory bounds the secrets of one history.
	maxHistory = 100_000
)

// Document returns the secrets of a document that is at hand, as a task definition
// is.
func (s *Scanner) Document(name string, text []byte) inventory.Inventory {
	inv := inventory.Inventory{Packages: []inventory.Package{}, Analysis: Analysis}
	if s.o.Secrets != nil {
		var err error
		if inv.Secrets, err = s.o.Secrets.FindText(secret.File{Path: strings.TrimPrefix(filepath.ToSlash(name), "/"), Document: true}, text); err != nil {
			inv.Problems = append(inv.Problems, inventory.Problem{Place: inventory.Place{Path: name}, What: err.Error()})
		}
	}
	return s.dated(inv, inventory.Subject{Kind: inventory.KindDocument, Name: name}, nil)
}

// Commits returns the secrets of a repository's history. One that stands in
// several versions of a file is told once, with the commit that brought it first;
// it is gone if no file of the newest commit has it. Only Secrets and Now of the
// options count.
func (s *Scanner) Commits(ctx context.Context, name string, h History) (inventory.Inventory, error) {
	inv := inventory.Inventory{Packages: []inventory.Package{}, Analysis: Analysis}
	at := map[string]int{} // by print
	err := h.Each(ctx, func(b inventory.Blob, content io.Reader) error {
		f := secret.File{Path: b.Path, Commit: b.Commit.Hash}
		if b.Message {
			f.Source = inventory.InMessage
		}
		found, err := s.o.Secrets.Find(ctx, f, io.LimitReader(content, maxBlob))
		if errors.Is(err, secret.ErrMany) {
			inv.Problems = append(inv.Problems, inventory.Problem{Place: inventory.Place{Path: "/" + b.Path}, What: fmt.Sprintf("in %s: %v", commitOf(b), err)})
		} else if err != nil {
			return fmt.Errorf("%s of %s: %w", b.Path, commitOf(b), err)
		}
		if b.Size > maxBlob {
			inv.Problems = append(inv.Problems, inventory.Problem{Place: inventory.Place{Path: "/" + b.Path},
				What: fmt.Sprintf("of its %d bytes in %s the first %d were looked at", b.Size, commitOf(b), maxBlob)})
		}
		for _, f := range found {
			if k, ok := at[f.Print]; ok {
				if b.Newest && inv.Secrets[k].Commit != nil { // where it stands now is what somebody can look at
					inv.Secrets[k].Commit.Gone = false
					inv.Secrets[k].Line, inv.Secrets[k].Column, inv.Secrets[k].Allowed = f.Line, f.Column, f.Allowed
				}
				continue
			}
			if len(inv.Secrets) >= maxHistory {
				return fmt.Errorf("history has more than %d secrets", maxHistory)
			}
			if b.Commit.Hash != "" { // what is staged is in none yet
				commit := b.Commit
				commit.Gone = !b.Newest
				f.Commit = &commit
			}
			at[f.Print] = len(inv.Secrets)
			inv.Secrets = append(inv.Secrets, f)
		}
		return nil
	})
	if err != nil {
		return inventory.Inventory{}, fmt.Errorf("scan %s: %w", name, err)
	}
	slices.SortFunc(inv.Secrets, inventory.CompareSecrets)
	return s.dated(inv, inventory.Subject{Kind: inventory.KindHistory, Name: name}, nil), nil
}

// commitOf names the commit that brought a content.
func commitOf(b inventory.Blob) string {
	if b.Commit.Hash == "" {
		return "the index"
	}
	return "commit " + b.Commit.Hash
}
