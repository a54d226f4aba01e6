package db_test

import (
	"path/filepath"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		// Not openFor: the suite closes what it opened.
		return openAt(t, filepath.Join(t.TempDir(), "castellan.db"))
	})
}

func openAt(t *testing.T, path string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Options{Path: path}, testLog())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
