package main

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func serve(address, tokenFile string) error {
	token, err := readToken(tokenFile)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			handle(&link{conn: conn}, token)
		}()
	}
}

func readToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	return strings.TrimSpace(string(data)), err
}

func handle(l *link, token string) {
	kind, data, err := l.receive()
	if err != nil || kind != frameRequest {
		return
	}
	var asked request
	if json.Unmarshal(data, &asked) != nil || len(asked.Argv) == 0 {
		return
	}
	if subtle.ConstantTimeCompare([]byte(asked.Token), []byte(token)) != 1 {
		return
	}
	code := execute(l, asked)
	l.send(frameExit, []byte{byte(code)})
}

// execute runs the command until it and everything that holds its output have ended.
// A client that goes away takes the command's process group with it.
func execute(l *link, asked request) int {
	cmd := exec.Command(asked.Argv[0], asked.Argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = stream{l, frameStdout}
	cmd.Stderr = stream{l, frameStderr}
	if info, err := os.Stat(asked.Dir); err == nil && info.IsDir() {
		cmd.Dir = asked.Dir
	}
	// Not cmd.StdinPipe: its Wait would close it under our feet.
	stdinRead, stdin, err := os.Pipe()
	if err != nil {
		return refuse(l, exitCannot, err)
	}
	defer stdin.Close()
	cmd.Stdin = stdinRead
	err = cmd.Start()
	stdinRead.Close()
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return refuse(l, exitNotFound, err)
		}
		return refuse(l, exitCannot, err)
	}

	done := make(chan struct{})
	go func() {
		// Writing to a process that does not read must not keep signals from it.
		input := make(chan []byte, 64)
		go feed(stdin, input)
		defer close(input)
		for {
			kind, data, err := l.receive()
			if err != nil {
				select {
				case <-done:
				default:
					syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				}
				return
			}
			switch {
			case kind == frameStdin:
				select {
				case input <- data:
				case <-done:
					return
				}
			case kind == frameSignal && len(data) == 1:
				syscall.Kill(-cmd.Process.Pid, syscall.Signal(data[0]))
			}
		}
	}()
	err = cmd.Wait()
	close(done)

	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return 128 + int(status.Signal())
	case ok:
		return status.ExitStatus()
	default:
		return refuse(l, exitCannot, err)
	}
}

// feed copies what arrives to the command's standard input, and closes it at the empty piece.
func feed(stdin *os.File, input <-chan []byte) {
	for data := range input {
		if len(data) == 0 {
			stdin.Close()
			continue
		}
		// A command that does not read its input is none of our business.
		stdin.Write(data)
	}
}

func refuse(l *link, code int, err error) int {
	l.send(frameStderr, fmt.Appendf(nil, "error: %v\n", err))
	return code
}
