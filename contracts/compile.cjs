// Compiles AuditAnchor.sol and prints the artifact: the file AuditAnchor.json, byte for byte.
//
// usage: node compile.cjs NODE_MODULES
'use strict'
const fs = require('fs')
const path = require('path')

const solc = require(path.join(path.resolve(process.argv[2]), 'solc'))
const settings = {
  // Runs weigh the size of the code against the price of a call; an anchor a day is a few hundred calls a year.
  optimizer: { enabled: true, runs: 1000 },
  // The oldest set of instructions after the merge: every chain that has EIP-1559 today runs it.
  evmVersion: 'paris',
  // No digest of the metadata at the end of the code: it would depend on paths.
  metadata: { bytecodeHash: 'none', appendCBOR: false },
}
const input = {
  language: 'Solidity',
  sources: { 'AuditAnchor.sol': { content: fs.readFileSync(path.join(__dirname, 'AuditAnchor.sol'), 'utf8') } },
  settings: {
    ...settings,
    outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
  },
}
const output = JSON.parse(solc.compile(JSON.stringify(input)))
if (output.errors) {
  for (const error of output.errors) process.stderr.write(error.formattedMessage)
  process.exit(1)
}
const contract = output.contracts['AuditAnchor.sol'].AuditAnchor
const artifact = {
  contract: 'AuditAnchor',
  compiler: `solc ${solc.version()}`,
  settings,
  abi: contract.abi,
  bytecode: `0x${contract.evm.bytecode.object}`,
  deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
}
process.stdout.write(`${JSON.stringify(artifact, null, 1)}\n`)
