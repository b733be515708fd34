// The log by other hands: trees, proofs, tiles and notes of golang.org/x/mod, as JSON for test_log_go.py.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Entries  [][]byte
	Included [][2]int64 // entry, size
	Grown    [][2]int64 // old size, new size
	Vkey     string
	Note     []byte
	Skey     string
	Text     string
}

type answer struct {
	Roots    map[int64][]byte
	Included [][][]byte
	Grown    [][][]byte
	Text     string
	Signers  []string
	Signed   []byte
	Tiles    []string
}

type memory []tlog.Hash

func (m memory) ReadHashes(places []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(places))
	for i, place := range places {
		found[i] = m[place]
	}
	return found, nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func bytesOf(hashes []tlog.Hash) [][]byte {
	all := [][]byte{}
	for _, hash := range hashes {
		all = append(all, append([]byte{}, hash[:]...))
	}
	return all
}

func main() {
	var asked question
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	said := answer{Roots: map[int64][]byte{}}
	var stored memory
	for number, entry := range asked.Entries {
		hashes, err := tlog.StoredHashes(int64(number), entry, stored)
		must(err)
		stored = append(stored, hashes...)
		root, err := tlog.TreeHash(int64(number)+1, stored)
		must(err)
		said.Roots[int64(number)+1] = append([]byte{}, root[:]...)
	}
	for _, pair := range asked.Included {
		proof, err := tlog.ProveRecord(pair[1], pair[0], stored)
		must(err)
		said.Included = append(said.Included, bytesOf(proof))
	}
	for _, pair := range asked.Grown {
		proof, err := tlog.ProveTree(pair[1], pair[0], stored)
		must(err)
		said.Grown = append(said.Grown, bytesOf(proof))
	}
	verifier, err := note.NewVerifier(asked.Vkey)
	must(err)
	opened, err := note.Open(asked.Note, note.VerifierList(verifier))
	must(err)
	said.Text = opened.Text
	for _, signature := range opened.Sigs {
		said.Signers = append(said.Signers, signature.Name)
	}
	signer, err := note.NewSigner(asked.Skey)
	must(err)
	said.Signed, err = note.Sign(&note.Note{Text: asked.Text}, signer)
	must(err)
	for _, tile := range tlog.NewTiles(8, 0, int64(len(asked.Entries))) {
		said.Tiles = append(said.Tiles, tile.Path())
	}
	must(json.NewEncoder(os.Stdout).Encode(said))
}
