"""Words that say nothing by themselves, in four languages, and those that deny."""

from __future__ import annotations

_FUNCTION_WORDS = """
about above after again all also although among and another any are around because been before being below between both
but can could did does doing down during each either else ever every few for from further had has have having her here
hers him his how however into its itself just less many may might more most much must nor off once one only onto other
our out over own per same shall she should since some such than that the their them then there these they this those
though through thus too under until upon very was were what when where whether which while who whom whose why will with
within would yet you your

according document documents passage passages question source sources states says see text

aber alle als also auch auf aus bei beim bis das dass dem den denn der des die dies diese diesem diesen dieser doch
durch ein eine einem einen einer eines für haben hat hatte ihm ihn ihr ihre ist kann laut man mit nach noch nur oder
ohne sein seine sich sie sind über und uns unter vom von vor war waren was wenn werden wie wird wurde wurden zum zur

aux avec ces cet cette dans des donc elle elles est été être ils les leur leurs mais mes nous ont par pour que qui sans
ses son sont sur une vous

con del las los ella ellos era eran esta este esto están hay más para pero por que sus una uno unos
"""
_DENIALS = """
not no never none nor neither nobody nothing cannot without
nicht kein keine keinem keinen keiner keines nie niemals ohne nichts
pas jamais aucun aucune sans rien
nunca sin ningún ninguna nada
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
DENIALS = frozenset(_DENIALS.split())
